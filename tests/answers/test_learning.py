"""Learning numbers, logistic crossings and power laws against known laws and by definition."""

import numpy as np
import pandas
import pytest
from scipy import stats
from scipy.special import expit, logit

from flowlift import answers
from flowlift.answers.learning import exact_interval
from flowlift.answers.power_law import _lack_of_fit

SIZES = np.array([8, 16, 32, 64, 128])


def counts(successes, runs, undecided=0, sizes=SIZES):
    k = np.asarray(successes)
    columns = {"converged": k, "stuck": runs - k - undecided, "undecided": undecided}
    return pandas.DataFrame(columns, index=pandas.Index(sizes[: len(k)], name="lift size")).assign(
        runs=runs
    )


def test_exact_intervals_are_those_of_scipy():
    for runs in (1, 20):
        low, high = exact_interval(np.arange(runs + 1), np.full(runs + 1, runs), 0.9)
        for k in range(runs + 1):
            interval = stats.binomtest(k, runs).proportion_ci(0.9)
            assert (low[k], high[k]) == pytest.approx((interval.low, interval.high))


def test_a_logistic_curve_is_found_again():
    """Counts equal to their expectations: the likeliest curve is the true one."""
    slope, size = 1.7, 40.0
    p = expit(logit(0.9) + slope * np.log(SIZES / size))
    runs = np.full(5, 10_000_000)
    fit = answers.logistic_crossing(SIZES, np.round(runs * p).astype(int), runs, 0.9)
    assert fit.size == pytest.approx(size, rel=1e-4)
    assert fit.slope == pytest.approx(slope, rel=1e-3)
    assert fit.low < size < fit.high < 1.01 * size
    assert fit.misfit > 0.9
    assert fit.between is None


def test_the_ends_of_its_interval_are_where_the_likelihood_ratio_rejects():
    """By brute force over (a, b) on a lattice."""
    k, runs = np.array([3, 9, 14, 19, 20]), np.full(5, 20)
    fit = answers.logistic_crossing(SIZES, k, runs, 0.75)
    x = np.log(SIZES)
    slopes = np.linspace(0.02, 6, 1500)

    def best(size):
        eta = logit(0.75) + slopes[:, None] * (x - np.log(size))
        return stats.binom.logpmf(k, runs, expit(eta)).sum(axis=1).max()

    for end in (fit.low, fit.high):
        assert best(fit.size) - best(end) == pytest.approx(stats.chi2.ppf(0.95, 1) / 2, abs=1e-3)


def test_the_interval_covers_as_often_as_it_claims():
    """Monte Carlo, by the likelihood ratio at the truth; 3 standard errors on either side."""
    rng = np.random.default_rng(7)
    slope, size, runs = 2.0, 30.0, np.full(5, 40)
    p = expit(logit(0.8) + slope * np.log(SIZES / size))
    covered = []
    for _ in range(60):
        fit = answers.logistic_crossing(SIZES, rng.binomial(runs, p), runs, 0.8, level=0.8)
        covered.append(fit.low <= size <= fit.high)
    assert abs(np.mean(covered) - 0.8) < 3 * np.sqrt(0.16 / 60)


@pytest.mark.parametrize(
    ("successes", "between"),
    [
        ([0, 0, 20, 20, 20], (16, 32)),
        ([0, 7, 20, 20, 20], (16, 32)),
        ([0, 0, 19, 20, 20], (16, 32)),
        ([20, 20, 20, 20, 20], (0, 8)),
        ([0, 0, 0, 0, 0], (128, np.inf)),
    ],
)
def test_separated_data_give_an_interval_between_two_sizes(successes, between):
    fit = answers.logistic_crossing(SIZES, successes, np.full(5, 20), 0.9)
    assert fit.between == between
    assert fit.size is None
    assert fit.slope == np.inf
    # A size with successes and failures says more: the interval lies about the jump.
    k = np.asarray(successes)
    if np.all((k == 0) | (k == 20)):
        np.testing.assert_allclose([fit.low, fit.high], between, rtol=1e-5)
    else:
        (mixed,) = SIZES[(k > 0) & (k < 20)]
        assert fit.low <= 1.00001 * mixed
        assert fit.high >= 0.99999 * mixed
        assert between[0] <= fit.low < fit.high < 64


def test_data_that_do_not_rise_have_no_crossing():
    fit = answers.logistic_crossing(SIZES, [15, 12, 10, 8, 5], np.full(5, 20), 0.9)
    assert (fit.size, fit.between, fit.slope) == (None, None, 0.0)
    assert (fit.low, fit.high) == (0.0, np.inf)


def test_a_curve_that_is_not_logistic_is_told():
    fit = answers.logistic_crossing(SIZES, [10, 90, 20, 80, 95], np.full(5, 100), 0.9)
    assert fit.misfit < 1e-6


def test_undecided_flows_are_counted_either_way():
    table = counts([0, 30, 60, 70, 72], 72, undecided=np.array([0, 42, 12, 2, 0]))
    strict = answers.learning_number(table, 0.1)
    generous = answers.learning_number(table, 0.1, undecided_converge=True)
    assert (strict.estimate, strict.above, strict.at_most) == (64, 16, 64)
    assert (generous.estimate, generous.above, generous.at_most) == (16, 8, 16)
    assert generous.logistic.between == (8, 16)


def test_the_bounds_hold_together_as_often_as_they_claim():
    """Many sizes at the edge: without fixed sequences the errors would add up."""
    rng = np.random.default_rng(3)
    sizes = np.arange(1, 31)
    # Sizes up to 15 fall short of 0.8 by a hair, sizes from 16 on have it exactly.
    p, wrong = np.where(sizes <= 15, 0.7999, 0.8), 0
    for _ in range(400):
        k = rng.binomial(100, p)
        low, high = exact_interval(k, np.full(30, 100), 0.8)
        number = _bounds(sizes, low, high, 0.8)
        wrong += (number[0] or 0) >= 16 or (number[1] or 99) < 16
    assert wrong / 400 < 0.2 + 3 * np.sqrt(0.16 / 400)
    table = counts(k, 100, sizes=sizes)
    found = answers.learning_number(table, 0.2, level=0.8)
    assert (found.above, found.at_most) == number


def _bounds(sizes, low, high, target):
    """The two walks, written as loops."""
    above = at_most = None
    for size, end in zip(sizes, high, strict=True):
        if end >= target:
            break
        above = size
    for size, end in zip(sizes[::-1], low[::-1], strict=True):
        if end < target:
            break
        at_most = size
    return above, at_most


def losses(exponent, spread, seeds=12, sizes=SIZES, seed=0, bend=0.0):
    rng = np.random.default_rng(seed)
    x = np.log(sizes / 32)
    return [
        np.exp(np.log(3.0) - exponent * v + bend * v**2 + spread * rng.standard_normal(seeds))
        for v in x
    ]


def test_a_power_law_is_found_again():
    law = answers.fit_power_law(SIZES, losses(1.5, 1e-6))
    assert law.refused == ""
    assert law.exponent == pytest.approx(1.5, abs=1e-5)
    assert law.prefactor == pytest.approx(3.0 * 32**1.5, rel=1e-4)


def test_the_bootstrap_interval_is_as_wide_as_theory_says_and_covers():
    spread, seeds = 0.5, 12
    covered, widths = [], []
    for seed in range(40):
        law = answers.fit_power_law(
            SIZES, losses(1.0, spread, seed=seed), level=0.8, significance=0.0
        )
        covered.append(law.low <= 1.0 <= law.high)
        widths.append(law.high - law.low)
    x = np.log(SIZES)
    error = spread / np.sqrt(seeds * np.sum((x - x.mean()) ** 2))
    expected = 2 * stats.norm.ppf(0.9) * error
    assert 0.85 * expected < np.mean(widths) < 1.15 * expected
    assert np.mean(covered) == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / 40))


def test_the_bootstrap_interval_is_the_bca_of_scipy():
    """Its jackknife is in closed form here; sizes with different numbers of seeds, skewed."""
    rng, x = np.random.default_rng(4), np.log(SIZES)
    y = [-v + rng.gamma(0.5, size=4 + i) for i, v in enumerate(x)]
    repeated = np.repeat(x, [len(v) for v in y])
    design = np.stack([np.ones_like(repeated), repeated])

    def exponent(*samples, axis=-1):
        # Least squares over all seeds, from the sums of each size's own.
        sums = np.stack([s.mean(axis=axis) * n for s, n in zip(samples, range(4, 9), strict=True)])
        each = np.linalg.inv(design @ design.T) @ np.stack([np.ones_like(x), x])
        return -np.tensordot(each[1], sums, 1)

    expected = stats.bootstrap(
        y, exponent, n_resamples=2000, confidence_level=0.9, rng=np.random.default_rng(0)
    ).confidence_interval
    law = answers.fit_power_law(SIZES, [np.exp(v) for v in y], level=0.9, significance=0.0)
    assert (law.low, law.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_lack_of_fit_test_rejects_as_often_as_it_says():
    x, p = np.log(SIZES), []
    for seed in range(400):
        y = [np.log(values) for values in losses(1.0, 0.3, seeds=4, seed=seed)]
        slope, intercept = np.polyfit(np.repeat(x, 4), np.concatenate(y), 1)
        p.append(_lack_of_fit(x, y, slope, intercept))
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ((SIZES, losses(1.0, 0.1, bend=0.5)), "a straight line in log-log does not fit"),
        ((SIZES[:3], losses(1.0, 0.1, sizes=SIZES[:3])), "3 sizes are too few"),
        ((SIZES, losses(1.0, 0.1, seeds=1)), "one seed"),
        ((SIZES, [*losses(1.0, 0.1)[:4], np.zeros(12)]), "not positive or not finite"),
    ],
)
def test_what_is_no_power_law_is_refused(data, reason):
    law = answers.fit_power_law(*data)
    assert reason in law.refused
    assert np.isnan([law.exponent, law.low, law.high, law.prefactor]).all()
