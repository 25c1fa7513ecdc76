"""kappa(eps) to 1e-6 where J is nearly, or really, singular, against the dense decomposition."""

import dense
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, tasks


def outputs_of(model, rows):
    """F = A theta, the rows of A as inputs: matrices of one shape share a compilation."""
    return (rows @ model.theta)[:, None]


def linear(shape, rank, condition, seed=0):
    """A random J with singular values from 1 down to 1 / condition, and a unit residual."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in shape)
    j = (left * np.geomspace(1, 1 / condition, rank)) @ right.T
    r = rng.standard_normal(shape[0])
    r /= np.linalg.norm(r)
    root = np.sqrt(shape[0])
    task = tasks.supervised(root * j, -root * r[:, None], apply=outputs_of)
    return dense.Vector(jnp.zeros(shape[1])), task, j, r


def levels_and_truth(j, r):
    """Levels from a third of the way down to a billionth above the floor, and one below it."""
    left, values, _ = np.linalg.svd(j, full_matrices=False)
    inside = np.sum((left.T @ r)[values > 1e-13 * values[0]] ** 2)
    floor = max(r @ r - inside, 0)
    eps = floor + inside * np.array([0.3, 1e-2, 1e-4, 1e-6, 1e-9])
    return floor, eps, np.array([dense.kappa(j, r, e) for e in eps])


def rounding(j, r):
    """By how much kappa changes, relatively, when J is rounded: the most of twelve draws."""
    _, eps, truth = levels_and_truth(j, r)
    rng, unit = np.random.default_rng(0), np.finfo(float).eps * np.abs(j).max()
    rounded = [j + unit * rng.uniform(-1, 1, j.shape) for _ in range(12)]
    moved = np.array([[dense.kappa(other, r, e) for e in eps] for other in rounded])
    return np.abs(moved / truth - 1).max(axis=0)


def check(model, task, j, r, rtol=1e-6):
    floor, eps, truth = levels_and_truth(j, r)
    curve = diagnostics.tangent_curve(model, task, eps)
    radius = curve.kappa(eps)
    for bound in (radius.kappa, radius.lower):
        assert (np.abs(np.asarray(bound) / truth - 1) <= rtol).all()
    # The floor is known to rounding x condition, the reference's as well.
    np.testing.assert_allclose(curve.floor, [floor, floor], atol=1e-10)
    if floor > 1e-6:
        below = curve.kappa(0.999 * floor)
        assert np.isinf(below.kappa)
        assert np.isinf(below.lower)


# Fewer outputs than parameters: the basis is kept in function space; more: in that of theta.
FUNCTION, PARAMETER = (24, 36), (36, 24)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [FUNCTION, PARAMETER])
@pytest.mark.parametrize("rank", [24, 15])
@pytest.mark.parametrize("condition", [1e3, 1e6])
def test_both_routes_full_rank_and_deficient(shape, rank, condition):
    check(*linear(shape, rank, condition))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [FUNCTION, PARAMETER])
def test_the_error_is_that_of_rounding_in_j(shape):
    """Condition 1e9, where rounding moves the floor itself by about a billionth: the last level
    may lie below it, and then kappa is known to no digit."""
    model, task, j, r = linear(shape, 24, 1e9)
    rtol = 1e-9 + 3 * rounding(j, r)
    assert rtol[:-1].max() < 1e-3
    check(model, task, j, r, rtol)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [FUNCTION, PARAMETER])
def test_the_move_attains_the_level_by_both_routes(shape):
    model, task, j, r = linear(shape, 20, 1e6)
    _, eps, truth = levels_and_truth(j, r)
    move = diagnostics.tangent_move(model, task, float(eps[2]))
    attained = r + j @ np.asarray(move.step)
    assert attained @ attained == pytest.approx(eps[2], rel=1e-6)
    assert float(move.length) == pytest.approx(truth[2], rel=1e-6)
    assert float(move.residual) == pytest.approx(attained @ attained, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("copies", "samples"), [(4, 15), (2, 40)])
def test_real_lifts_of_small_width(copies, samples):
    lift, task = dense.small_lift(copies=copies), dense.small_task(samples=samples)
    j, _ = dense.jacobian(lift, task)
    values = np.linalg.svd(j, compute_uv=False)
    assert values[0] / values[values > 1e-13 * values[0]][-1] > 5e2
    check(lift, task, j, dense.residual(lift, task))
