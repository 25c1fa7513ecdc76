"""Hermite polynomials, index models and parities against quadrature, enumeration and means."""

import itertools
import math

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss, hermeval

from flowlift import tasks
from flowlift.modules import HermiteSum

Z, W = hermegauss(60)
W = W / math.sqrt(2 * math.pi)


def he(k, z):
    """He_k / sqrt(k!) by NumPy."""
    return hermeval(z, np.eye(k + 1)[k]) / math.sqrt(math.factorial(k))


def test_hermite_polynomials_are_orthonormal():
    values = np.array([tasks.hermite(k, Z) for k in range(12)])
    np.testing.assert_allclose(values @ (W[:, None] * values.T), np.eye(12), atol=1e-12)
    for k in range(12):
        np.testing.assert_allclose(values[k], he(k, Z), rtol=1e-9, atol=1e-9)


def test_hermite_coefficients_are_those_of_the_function():
    given = np.array([0.3, -1.0, 0.0, 0.25, 2.0])
    poly = lambda z: sum(c * he(k, z) for k, c in enumerate(given))
    np.testing.assert_allclose(tasks.hermite_coefficients(poly, 4), given, atol=1e-12)
    # E relu = 1 / sqrt(2 pi), E z relu = 1 / 2, E he_2 relu = 1 / sqrt(4 pi), E he_3 relu = 0.
    exact = [1 / math.sqrt(2 * math.pi), 0.5, 1 / math.sqrt(4 * math.pi), 0.0]
    found = tasks.hermite_coefficients(lambda z: np.maximum(z, 0), 3)
    np.testing.assert_allclose(found, exact, atol=1 / 200)


def test_a_hermite_sum_is_the_polynomial():
    given = (0.3, -1.0, 0.0, 0.25, 2.0)
    sum_ = HermiteSum(given)
    expected = sum(c * he(k, Z[20:40]) for k, c in enumerate(given))
    np.testing.assert_allclose(sum_(Z[20:40]), expected, rtol=1e-10, atol=1e-12)
    assert str(HermiteSum((0, 0, 1))) == "1 he2"
    assert HermiteSum([0, 0, 1]) == HermiteSum((0.0, 0.0, 1.0))
    assert hash(HermiteSum([0, 0, 1])) == hash(HermiteSum((0.0, 0.0, 1.0)))


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_single_index_model_is_its_sum_along_one_direction(precision):
    given = {1: 0.5, 3: -2.0}
    task = tasks.single_index(6, given, samples=40, seed=3, precision=precision)
    x, y = (np.asarray(a) for a in (task.objective.inputs, task.objective.targets))
    assert x.dtype == y.dtype == precision
    (w,) = task.facts["directions"]
    assert np.linalg.norm(w) == pytest.approx(1, rel=1e-14)
    tolerance = 1e-12 if precision == "float64" else 1e-4
    np.testing.assert_allclose(y, 0.5 * he(1, x @ w) - 2 * he(3, x @ w), atol=tolerance)
    assert task.facts["information exponent"] == 1
    assert tasks.single_index(2, {0: 1.0}, samples=1, seed=0).facts["information exponent"] is None


def test_the_coefficients_are_means_over_samples():
    """c_k = E y he_k(<w, x>) within 5 standard errors, and no other direction tells anything."""
    given = {0: 0.4, 2: 1.0, 3: 0.5}
    task = tasks.single_index(4, given, samples=200_000, seed=1)
    x, y = (np.asarray(a) for a in (task.objective.inputs, task.objective.targets))
    (w,) = task.facts["directions"]
    across = np.linalg.svd(w[None])[2][1]
    for direction, expected in ((w, given), (across, {0: 0.4})):
        for k in range(5):
            products = y * he(k, x @ direction)
            error = products.std() / math.sqrt(len(y))
            assert products.mean() == pytest.approx(expected.get(k, 0), abs=5 * error)
    squares = y**2
    error = squares.std() / math.sqrt(len(y))
    assert task.facts["target power"] == pytest.approx(squares.mean(), abs=5 * error)
    assert task.facts["target power"] - task.facts["target variance"] == pytest.approx(0.16)


def test_a_multi_index_model_is_its_sum_along_a_frame():
    terms = {"1 0 2": 0.5, (0, 3, 0): 1.0, "0 0 0": -0.25}
    task = tasks.multi_index(7, terms, samples=30, seed=2)
    x, y = (np.asarray(a) for a in (task.objective.inputs, task.objective.targets))
    frame = task.facts["directions"]
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-14)
    z = x @ frame.T
    expected = 0.5 * he(1, z[:, 0]) * he(2, z[:, 2]) + he(3, z[:, 1]) - 0.25
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert task.facts["information exponent"] == 3
    assert task.facts["target variance"] == pytest.approx(1.25)
    assert task.provenance["terms"] == {"1 0 2": 0.5, "0 3 0": 1.0, "0 0 0": -0.25}


def leap_by_enumeration(terms):
    """The least over all orders of the largest degree in directions not seen before."""
    real = [a for a, c in terms.items() if c and any(a)]
    best = math.inf
    for order in itertools.permutations(real):
        seen, worst = set(), 0
        for a in order:
            worst = max(worst, sum(k for j, k in enumerate(a) if j not in seen))
            seen |= {j for j, k in enumerate(a) if k}
        best = min(best, worst)
    return best if real else None


def test_the_leap_is_the_best_order():
    # Abbe et al. 2023: h1 + h1 h2 + h1 h2 h3 climbs a staircase, h1 h2 h3 alone leaps by three.
    assert tasks.leap({(1, 0, 0): 1.0, (1, 1, 0): 1.0, (1, 1, 1): 1.0}) == 1
    assert tasks.leap({(1, 1, 1): 1.0, (1, 0, 0): 0.0}) == 3
    assert tasks.leap({(0, 0): 1.0}) is None
    rng = np.random.default_rng(0)
    for _ in range(60):
        terms = {tuple(rng.integers(0, 3, 4).tolist()): 1.0 for _ in range(rng.integers(1, 6))}
        assert tasks.leap(terms) == leap_by_enumeration(terms)


def test_noise_adds_its_variance_and_takes_no_part_in_the_inputs():
    plain = tasks.single_index(3, {1: 1.0}, samples=50_000, seed=4)
    noisy = tasks.single_index(3, {1: 1.0}, samples=50_000, seed=4, noise=0.5)
    np.testing.assert_array_equal(plain.objective.inputs, noisy.objective.inputs)
    residual = np.asarray(noisy.objective.targets - plain.objective.targets)
    # The deviation of a variance of n Gaussian numbers is sqrt(2 / n) of it.
    assert residual.var() == pytest.approx(0.25, rel=5 * math.sqrt(2 / 50_000))
    assert "least loss" not in noisy.facts
    assert plain.facts["least loss"] == 0


def test_parity_is_orthogonal_to_all_other_parities():
    task = tasks.sparse_parity(6, 3)
    x, y = (np.asarray(a) for a in (task.objective.inputs, task.objective.targets))
    assert len({tuple(row) for row in x}) == 64
    for size in range(7):
        for subset in itertools.combinations(range(6), size):
            overlap = np.mean(y * np.prod(x[:, list(subset)], axis=1))
            assert overlap == (subset == (0, 1, 2))


def test_drawn_parities_are_fair_signs():
    task = tasks.sparse_parity(30, 4, samples=4000, seed=1, problem="classification")
    x, y = (np.asarray(a) for a in (task.objective.inputs, task.objective.targets))
    assert set(np.unique(x)) == {-1, 1}
    np.testing.assert_array_equal(np.prod(x[:, :4], axis=1), 2 * y - 1)
    # Means of 4000 fair signs, 5 standard errors.
    assert np.abs(x.mean(0)).max() < 5 / math.sqrt(4000)
    share = y.mean()
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert task.facts["constant loss"] == pytest.approx(entropy, rel=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: tasks.single_index(5, {2: 1.0}, samples=9, seed=seed, noise=0.1),
        lambda seed: tasks.multi_index(5, {"1 1": 1.0}, samples=9, seed=seed),
        lambda seed: tasks.sparse_parity(9, 2, samples=9, seed=seed),
    ],
)
def test_a_seed_says_everything(make):
    first, again, other = make(1).objective, make(1).objective, make(2).objective
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert not np.array_equal(first.inputs, other.inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.single_index(3, {}, samples=4, seed=0), "must hold at least one term"),
        (lambda: tasks.single_index(3, {-1: 1.0}, samples=4, seed=0), "degrees of at least 0"),
        (lambda: tasks.single_index(3, {1: np.nan}, samples=4, seed=0), "must be a finite number"),
        (lambda: tasks.single_index(0, {1: 1.0}, samples=4, seed=0), "`inputs` must be an integer"),
        (lambda: tasks.single_index(3, {1: 1.0}, samples=0, seed=0), "`samples` must be an int"),
        (lambda: tasks.single_index(3, {1: 1.0}, samples=4, seed=0, noise=-1), "of at least 0"),
        (lambda: tasks.single_index(9, {1: 1.0}, samples=10**12, seed=0), "this machine's memory"),
        (lambda: tasks.multi_index(3, {"1": 1, "1 1": 1}, samples=4, seed=0), "every direction"),
        (lambda: tasks.multi_index(3, {"1 x": 1}, samples=4, seed=0), "degrees of at least 0"),
        (lambda: tasks.single_index(3, [1.0], samples=4, seed=0), "`coefficients` must be a map"),
        (lambda: tasks.multi_index(3, {3: 1.0}, samples=4, seed=0), "`terms` must be a list"),
        (lambda: tasks.multi_index(1, {"1 1": 1}, samples=4, seed=0), "integer of at least 2"),
        (lambda: tasks.sparse_parity(4, 5), "`degree` must be an integer from 1 to 4, but is 5"),
        (lambda: tasks.sparse_parity(60, 2), "`inputs` must fit into this machine's memory"),
        (lambda: tasks.sparse_parity(6, 2, problem="ranking"), "`problem` must be one of"),
        (lambda: HermiteSum(()), "must hold at least one finite number"),
    ],
)
def test_bad_index_models_are_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
