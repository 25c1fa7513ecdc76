"""Verdicts and probabilities against closed forms and brute force."""

import numpy as np
import pandas
import pytest
import xarray
from scipy import stats

from flowlift import answers, plot


def results(losses, ends=None, times=(0.0, 1.0, 10.0, 100.0)):
    """Losses (size, seed, time), NaN after a flow's end; the end as (time, loss, how)."""
    losses = np.asarray(losses, float)
    last = np.where(np.isfinite(losses), np.arange(losses.shape[-1]), -1).max(axis=-1)
    final = np.take_along_axis(losses, last[..., None], -1)[..., 0]
    end = np.asarray(times)[last].astype(float)
    how = np.full(final.shape, "horizon", dtype="<U20")
    for where, (time, loss, word) in (ends or {}).items():
        end[where], final[where], how[where] = time, loss, word
    dims = ("size", "seed")
    return xarray.Dataset(
        {"loss": ((*dims, "time"), losses), "final_loss": (dims, final)}
        | {"end_time": (dims, end), "result": (dims, how)},
        coords={
            "size": np.arange(1, len(losses) + 1) * 8,
            "seed": np.arange(losses.shape[1]),
            "time": list(times),
        },
    )


NAN = float("nan")
SAMPLE = results(
    [[[1, 0.5, 0.2, 0.1], [1, 0.9, 0.8, 0.7], [1, 0.6, NAN, NAN], [1, 0.5, NAN, NAN]]],
    # The third failed at t = 5; the fourth was stopped at t = 3 because its loss was met.
    ends={(0, 2): (5.0, 0.55, "non-finite"), (0, 3): (3.0, 0.2, "loss below")},
)


@pytest.mark.parametrize(
    ("loss", "time", "expected"),
    [
        (0.2, None, [True, False, False, True]),
        (0.2, 10.0, [True, False, False, True]),
        (0.2, 9.0, [False, False, False, True]),
        (0.2, 2.0, [False, False, False, False]),
        (0.55, None, [True, False, True, True]),
        (1e-9, None, [False] * 4),
    ],
)
def test_success_is_a_predicate_at_any_loss_and_time(loss, time, expected):
    assert answers.converged(SAMPLE, loss, time).values[0].tolist() == expected


def test_time_to_loss_is_the_first_save_time_or_the_censoring():
    times, met = answers.time_to_loss(SAMPLE, 0.2)
    assert times.values[0].tolist() == [10.0, 100.0, 5.0, 3.0]
    assert met.values[0].tolist() == [True, False, False, True]


def test_probabilities_count_every_run_and_have_exact_intervals():
    row = answers.success_probability(SAMPLE, 0.2, 10.0).loc[8]
    assert (row.runs, row.converged, row.stuck, row["not yet"]) == (4, 2, 0, 1)
    # Nobody knows what the one that failed at t = 5 would have done by t = 10.
    assert (row["not observed"], row.why) == (1, "1 failed (non-finite)")
    assert np.isnan(row.probability)
    # Clopper-Pearson by its definition through beta quantiles, that run counted either way.
    assert row.low == pytest.approx(stats.beta.ppf(0.025, 2, 3))
    assert row.high == pytest.approx(stats.beta.ppf(0.975, 4, 1))
    # Neither of the others is known to be stuck: in the limit, both may converge.
    assert (row.possible, row["at most"]) == (1.0, 1.0)


def test_a_run_that_was_not_done_does_not_count():
    missing = SAMPLE.copy(deep=True)
    missing.end_time[0, 1] = np.nan
    missing.final_loss[0, 1] = np.nan
    row = answers.success_probability(missing, 0.2).loc[8]
    assert (row.runs, row.converged) == (3, 2)


def test_intervals_cover_at_least_as_often_as_they_claim():
    runs, p = 12, 0.8
    k = np.arange(runs + 1)
    table = table_of(k, runs, sizes=k, level=0.9)
    covers = (table["low"] <= p) & (p <= table["high"])
    coverage = np.sum(stats.binom.pmf(k, runs, p) * covers)
    assert 0.9 <= coverage < 0.99


def table_of(successes, runs=100, sizes=(4, 8, 16, 32), level=0.95):
    k = np.asarray(successes)
    counts = {"converged": k, "stuck": runs - k, "undecided": 0}
    table = pandas.DataFrame(counts, index=pandas.Index(sizes, name="lift size"))
    return answers.probability_table(table, level)


def test_learning_number_is_bracketed():
    number = answers.learning_number(table_of([10, 70, 97, 100]), 0.1)
    assert (number.estimate, number.above, number.at_most) == (16, 8, 16)
    vague = answers.learning_number(table_of([1, 7, 9, 10], runs=10), 0.1)
    assert (vague.estimate, vague.above, vague.at_most) == (16, 4, None)
    never = answers.learning_number(table_of([1, 2, 3, 4]), 0.1)
    assert (never.estimate, never.above, never.at_most) == (None, 32, None)


def test_learning_number_pools_what_is_not_monotone():
    """92, 88 of 100 pool to 0.90: a single dip does not move the estimate past it."""
    assert answers.learning_number(table_of([50, 92, 88, 95]), 0.1).estimate == 8
    assert answers.learning_number(table_of([50, 92, 80, 95]), 0.1).estimate == 32


def test_survival_is_kaplan_meier():
    curve = answers.survival(SAMPLE, 0.2, 8)
    # Events at 3 and 10, censored at the horizon 100; the failure at 5 counts either way.
    assert curve["time"].tolist() == [3, 5, 10, 100]
    np.testing.assert_allclose(curve["least"], [3 / 4, 1 / 2, 1 / 4, 1 / 4])
    np.testing.assert_allclose(curve["most"], [3 / 4, 3 / 4, 1 / 2, 1 / 2])
    np.testing.assert_allclose(curve["share"], [3 / 4, NAN, NAN, NAN])
    assert curve["not observed"].tolist() == [0, 1, 1, 1]
    # Censored at the horizon alone, and of several horizons: the product-limit estimate.
    ends = {(0, 2): (5.0, 0.55, "horizon"), (0, 3): (3.0, 0.2, "loss below")}
    curve = answers.survival(results(SAMPLE.loss.values, ends), 0.2, 8)
    np.testing.assert_allclose(curve["share"], [3 / 4, 3 / 4, 3 / 8, 3 / 8])


def test_paired_difference_uses_discordant_pairs_only():
    a = xarray.DataArray([True] * 8 + [False] * 2 + [True] * 50)
    b = xarray.DataArray([False] * 8 + [True] * 2 + [True] * 50)
    expected = 2 * sum(stats.binom.pmf(k, 10, 0.5) for k in (0, 1, 2))
    assert answers.paired_difference(a, b) == pytest.approx(expected)
    assert answers.paired_difference(a, a) == 1.0


@pytest.mark.parametrize(("runs", "expected"), [(20, 0.2), (50, 0.14), (100, 0.1), (400, 0.05)])
def test_half_width_tells_beforehand_what_runs_will_give(runs, expected):
    assert answers.half_width(runs) == pytest.approx(expected, abs=0.03)


def test_success_against_size_shows_the_interval():
    ax = plot.success_vs_size(table_of([10, 70, 97, 100]))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.1, 0.7, 0.97, 1.0])
    assert ax.get_xlabel() == "lift size n"
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: answers.converged(SAMPLE, NAN), "`loss` must be a finite number, but is nan"),
        (lambda: answers.converged(SAMPLE, 0.1, -1.0), "`time` must be positive"),
        (lambda: answers.learning_number(table_of([1] * 4), 1.0), "`delta` must lie between"),
        (
            lambda: answers.learning_number(table_of([1] * 4, sizes=(8, 4, 2, 1)), 0.5),
            "must have increasing sizes",
        ),
    ],
)
def test_meaningless_questions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
