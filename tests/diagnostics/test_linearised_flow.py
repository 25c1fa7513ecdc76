"""The linearised flow against the dense exponential, and against true flows of linear models."""

import dense
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, flow, tasks


@pytest.fixture(scope="module")
def case():
    lift, task = dense.small_lift(), dense.small_task()
    j, _ = dense.jacobian(lift, task)
    return lift, task, j, dense.residual(lift, task)


TIMES = np.array([0.0, 0.1, 1.0, 10.0])


def exponential(j, r, t):
    values, basis = np.linalg.eigh(j @ j.T)
    return basis @ (np.exp(-2 * values * t) * (basis.T @ r))


def test_for_the_identity_all_decay_at_one_rate():
    """F = theta: r(t) = e^{-2t} r_0, L = e^{-4t} L_0."""
    target = np.array([3.0, 4.0])
    linear = diagnostics.linearised_flow(
        dense.Vector(jnp.zeros(2)), dense.identity_task(target), 10.0
    )
    np.testing.assert_allclose(linear.loss(TIMES), 25 * np.exp(-4 * TIMES), rtol=1e-12)
    expected = -np.exp(-2 * TIMES)[:, None] * target
    np.testing.assert_allclose(linear.residual(TIMES), expected, atol=1e-12)


@pytest.mark.slow
def test_residuals_and_losses_are_those_of_the_dense_exponential(case):
    lift, task, j, r = case
    linear = diagnostics.linearised_flow(lift, task, 10.0)
    truth = np.stack([exponential(j, r, t) for t in TIMES])
    np.testing.assert_allclose(linear.residual(TIMES), truth, atol=1e-8 * np.linalg.norm(r))
    np.testing.assert_allclose(linear.loss(TIMES), np.sum(truth**2, axis=1), rtol=1e-6)
    errors = np.linalg.norm(np.asarray(linear.residual(TIMES)) - truth, axis=1)
    assert (errors <= np.asarray(linear.error(TIMES)) + 1e-12).all()
    moved = j @ np.asarray(linear.displacement(1.0))
    np.testing.assert_allclose(r + moved, truth[2], atol=1e-8 * np.linalg.norm(r))
    assert linear.model(1.0).weights["h2->y"].shape == lift.weights["h2->y"].shape


@pytest.mark.slow
def test_few_products_admit_their_error(case):
    lift, task, j, r = case
    short = diagnostics.linearised_flow(lift, task, 10.0, max_products=6)
    assert int(short.products) == 6
    error = np.linalg.norm(np.asarray(short.residual(10.0)) - exponential(j, r, 10.0))
    assert 1e-6 < error <= 10 * float(short.error(10.0))
    with pytest.raises(ValueError, match="positive and finite"):
        diagnostics.linearised_flow(lift, task, 0.0)


@pytest.mark.slow
def test_for_a_linear_model_it_is_the_flow_itself():
    rng = np.random.default_rng(0)
    model = tasks.linear_model(rng.standard_normal((3, 2)))
    task = tasks.supervised(rng.standard_normal((6, 3)), rng.standard_normal((6, 2)))
    solution = flow.solve(
        model, task, 5.0, save=[0.5, 2.0], rtol=1e-10, atol=1e-12, snapshots=[0.5, 2.0, 5.0]
    )
    linear = diagnostics.linearised_flow(model, task, 5.0)
    np.testing.assert_allclose(linear.loss(solution.times), solution.loss, rtol=1e-7)
    assert np.max(diagnostics.lazy_distance(linear, solution.snapshots)) < 1e-7
    end = linear.model(5.0).weights["x->y"]
    np.testing.assert_allclose(end, solution.model.weights["x->y"], atol=1e-7)


@pytest.mark.slow
def test_a_true_flow_leaves_the_linearised_one(case):
    lift, task, *_ = case
    solution = dense.small_run()
    linear = diagnostics.linearised_flow(lift, task, 10.0)
    at = list(solution.times).index(0.01)
    near, far = np.asarray(diagnostics.lazy_distance(linear, solution.snapshots))
    moved = np.linalg.norm(linear.residual(0.01) - linear.residual(0.0))
    assert near < 0.05 * moved
    assert far > 20 * near
    assert jnp.asarray(linear.loss(0.01)) == pytest.approx(solution.loss[at], rel=1e-2)
