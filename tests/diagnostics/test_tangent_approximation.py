"""kappa(eps) against the dense singular value decomposition and closed forms."""

import dense
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import linear_call

from flowlift import diagnostics, tasks
from flowlift.diagnostics import tangent_approximation

LEVELS = np.array([0.5, 1e-1, 1e-2, 1e-3, 1e-6])


@pytest.fixture(scope="module")
def case():
    lift, task = dense.small_lift(), dense.small_task()
    j, _ = dense.jacobian(lift, task)
    r = dense.residual(lift, task)
    return lift, task, j, r


@pytest.mark.slow  # a dense factorisation and its curve
def test_the_whole_curve_is_that_of_the_dense_svd(case):
    lift, task, j, r = case
    eps = LEVELS * (r @ r)
    curve = diagnostics.tangent_curve(lift, task, eps)
    truth = np.array([dense.kappa(j, r, e) for e in eps])
    radius = curve.kappa(eps)
    np.testing.assert_allclose(radius.kappa, truth, rtol=1e-6)
    np.testing.assert_allclose(radius.lower, truth, rtol=1e-6)
    assert (np.asarray(radius.lower) <= truth * (1 + 1e-9)).all()
    assert (np.asarray(radius.kappa) >= truth * (1 - 1e-9)).all()
    assert float(curve.loss) == pytest.approx(r @ r, rel=1e-13)
    levels = np.asarray(curve.levels(5))
    assert (np.diff(levels) < 0).all()
    assert (np.diff(curve.kappa(levels).kappa) >= 0).all()


@pytest.mark.slow
def test_few_products_bracket_the_truth(case):
    lift, task, j, r = case
    eps = LEVELS * (r @ r)
    truth = np.array([dense.kappa(j, r, e) for e in eps])
    radius = diagnostics.tangent_curve(lift, task, eps, max_products=6).kappa(eps)
    lower, upper = np.asarray(radius.lower) / truth, np.asarray(radius.kappa) / truth
    assert (lower <= 1 + 1e-9).all()
    assert (upper >= 1 - 1e-9).all()
    assert upper[0] - lower[0] < 1e-3
    assert 1e-6 < upper[1] - lower[1] < 1e-3
    assert np.isinf(upper[-1])


@pytest.mark.slow
def test_the_move_attains_the_level(case):
    lift, task, j, r = case
    eps = 1e-2 * (r @ r)
    move = diagnostics.tangent_move(lift, task, eps)
    attained = r + j @ np.asarray(move.step)
    assert attained @ attained == pytest.approx(float(move.residual), rel=1e-9)
    assert float(move.residual) == pytest.approx(eps, rel=1e-5)
    assert float(move.length) == pytest.approx(dense.kappa(j, r, eps), rel=1e-6)


@pytest.mark.slow
def test_out_of_reach_is_infinite_and_the_floor_exact():
    """More outputs than parameters: part of the residual is out of the tangent space."""
    lift, task = dense.small_lift(copies=2), dense.small_task(samples=40)
    j, _ = dense.jacobian(lift, task)
    r = dense.residual(lift, task)
    u, s, _ = np.linalg.svd(j, full_matrices=False)
    floor = r @ r - np.sum((u.T @ r)[s > 1e-12 * s[0]] ** 2)
    curve = diagnostics.tangent_curve(lift, task)
    np.testing.assert_allclose(curve.floor, [floor, floor], rtol=1e-9)
    eps = np.array([0.999 * floor, 1.001 * floor, 1.1 * floor])
    radius = curve.kappa(eps)
    assert np.isinf(radius.kappa[0])
    assert np.isinf(radius.lower[0])
    truth = [dense.kappa(j, r, e) for e in eps[1:]]
    np.testing.assert_allclose(radius.kappa[1:], truth, rtol=1e-6)
    assert np.asarray(diagnostics.observer("tangent_floor", task)(lift)) == pytest.approx(floor)


@pytest.mark.slow
def test_closed_form_for_the_identity():
    """J = 1: the residual shrinks straight, kappa = |r| - sqrt(eps)."""
    target = np.array([3.0, 4.0])
    task, model = dense.identity_task(target), dense.Vector(jnp.zeros(2))
    curve = diagnostics.tangent_curve(model, task)
    for eps in (0.0, 1.0, 9.0, 24.99):
        assert float(curve.kappa(eps).kappa) == pytest.approx(5 - np.sqrt(eps), rel=1e-9)
    assert float(curve.kappa(25.0).kappa) == 0
    move = diagnostics.tangent_move(model, task, 1.0)
    np.testing.assert_allclose(move.step, target * 0.8, rtol=1e-9)
    done = dense.Vector(jnp.asarray(target))
    assert float(diagnostics.tangent_radius(done, task, 0.0).kappa) == 0


@pytest.mark.slow
def test_nothing_to_move_is_infinite():
    task = tasks.supervised(
        jnp.ones((3, 1)), jnp.ones((3, 1)), apply=lambda model, x: 0 * model.theta[0] * x
    )
    model = dense.Vector(jnp.ones(2))
    assert np.isinf(diagnostics.tangent_radius(model, task, 0.1).lower)
    assert np.isinf(diagnostics.tangent_radius(model, task, 0.1).kappa)


@pytest.mark.slow
def test_single_precision_keeps_its_type(case):
    lift, task, j, r = case
    small = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, lift)
    radius = diagnostics.tangent_radius(small, task, 0.1 * (r @ r), rtol=1e-3)
    assert radius.kappa.dtype == jnp.float32
    assert float(radius.kappa) == pytest.approx(dense.kappa(j, r, 0.1 * (r @ r)), rel=2e-3)


def test_bad_levels_are_refused(case):
    lift, task, *_ = case
    with pytest.raises(ValueError, match="at least 0, but is -1"):
        diagnostics.tangent_radius(lift, task, -1.0)


def counted_task(task, counts):
    """The task, counting at run time how often theta's tangents are pushed and pulled."""

    def push(_, x):
        jax.debug.callback(lambda: counts.__setitem__("push", counts["push"] + 1))
        return x

    def pull(_, x):
        jax.debug.callback(lambda: counts.__setitem__("pull", counts["pull"] + 1))
        return x

    def apply(model, xs):
        through = lambda x: linear_call(push, pull, (), x)
        return model.batch(xs + 0 * through(model.weights["h2->y"])[0])

    return tasks.supervised(task.objective.inputs, task.objective.targets, apply=apply)


def test_the_cost_is_counted_as_it_is(case):
    lift, task, _, r = case
    counts = {"push": 0, "pull": 0}
    counted = counted_task(task, counts)
    curve = diagnostics.tangent_curve(lift, counted, 1e-3 * (r @ r))
    jax.effects_barrier()
    # One push is the forward pass.
    assert counts == {"push": int(curve.products) + 1, "pull": int(curve.products)}
    assert int(curve.gradients) >= counts["push"] + counts["pull"]
    assert 1 + 2 * tangent_approximation.MAX_PRODUCTS + 2 <= 200


@pytest.mark.slow
def test_membership_counts_and_points_of_a_ball():
    task = dense.small_task()
    lifts = [dense.small_lift(seed) for seed in range(4)]
    eps = 0.05
    radii = [float(diagnostics.tangent_radius(lift, task, eps).kappa) for lift in lifts]
    between = np.mean(np.sort(radii)[1:3])
    found = diagnostics.membership(lifts, task, between, eps)
    assert (found.inside, found.outside, found.undecided) == (2, 2, 0)
    low, high = found.interval()
    assert (low, high) == pytest.approx((0.0676, 0.9324), abs=1e-4)
    hasty = diagnostics.membership(lifts, task, between, eps, max_products=1)
    assert hasty.total == 4
    assert hasty.undecided > 0


def test_ball_points_fill_the_ball_and_leave_padding_alone():
    lift = dense.small_lift()
    lengths = []
    for seed in range(50):
        moved = diagnostics.ball_point(lift, 2.0, seed)
        squared = 0.0
        for name, fibre in lift.fibres.items():
            gap = np.asarray(moved.weights[name] - lift.weights[name])
            assert not gap[int(fibre.count) :].any()
            squared += np.sum(gap**2)
        lengths.append(np.sqrt(squared))
    # |.|/R to the power of the dimension is uniform.
    uniform = (np.array(lengths) / 2) ** lift.n_parameters
    assert uniform.max() <= 1
    assert 0.35 < uniform.mean() < 0.65
    assert uniform.std() > 0.2
    plane = dense.Vector(jnp.zeros(2))
    angles = [np.arctan2(*diagnostics.ball_point(plane, 1.0, s).theta) for s in range(50)]
    assert abs(np.mean(np.exp(1j * np.array(angles)))) < 0.4
    with pytest.raises(ValueError, match="at least 0, but is -1"):
        diagnostics.ball_point(lift, -1.0, 0)
