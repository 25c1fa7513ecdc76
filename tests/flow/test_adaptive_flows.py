"""Flows of Adam and RMSProp: constant gradients, the methods themselves, refusals."""

import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import flowlift
from flowlift import modules, tasks
from flowlift.flow import Adam, RMSProp, solve

SLOPES = np.array([1.0, -2.0, 0.003])
START = problems.Vector(jnp.array([1.0, -2.0, 0.5]))


def linear(m):
    return jnp.sum(jnp.asarray(SLOPES, m.theta.dtype) * m.theta)


def bowl(m):
    return jnp.sum(jnp.array([0.5, 2.0, 1.0]) * (m.theta - 0.3) ** 2) + 0.1 * jnp.sum(m.theta**4)


@pytest.mark.parametrize("dynamics", [Adam(0.3, 2.0), RMSProp(2.0)])
@pytest.mark.parametrize("engine", ["host", "graph"])
def test_a_constant_gradient_moves_by_its_sign(dynamics, engine):
    # theta = theta_0 - t sign(g), from the bias corrections, which are regular at t = 0.
    solution = solve(START, linear, 5.0, dynamics=dynamics, solver="tsit5", engine=engine)
    exact = np.asarray(START.theta) - 5 * np.sign(SLOPES)
    np.testing.assert_allclose(solution.model.theta, exact, atol=2e-6)
    np.testing.assert_allclose(solution.energy, solution.loss[0] - solution.loss, atol=1e-12)


def test_rates_act_on_the_step_not_on_what_is_averaged():
    task = linear
    rated = solve(START, task, 2.0, dynamics=RMSProp(2.0), solver="tsit5", rates={"*": 0.25})
    exact = np.asarray(START.theta) - 0.5 * np.sign(SLOPES)
    np.testing.assert_allclose(rated.model.theta, exact, atol=2e-6)


@pytest.mark.slow  # 2,000 steps of optax, twice, outside of any loop that is compiled
@pytest.mark.parametrize("which", ["adam", "rmsprop"])
def test_small_steps_of_the_method_follow_the_flow_to_first_order(which):
    import jax

    gaps = []
    for eta in (2e-3, 1e-3):
        beta_1, beta_2 = 1 - eta / 0.2, 1 - eta / 0.5
        method = {
            "adam": optax.adam(eta, beta_1, beta_2, eps=1e-3),
            "rmsprop": optax.rmsprop(
                eta, beta_2, eps=1e-3, bias_correction=True, eps_in_sqrt=False
            ),
        }[which]
        theta, step = START.theta, jax.jit(method.update)
        state = method.init(theta)
        slope = jax.jit(jax.grad(lambda theta: bowl(problems.Vector(theta))))
        for _ in range(round(1.0 / eta)):
            update, state = step(slope(theta), state)
            theta = optax.apply_updates(theta, update)
        dynamics = {"adam": Adam(0.2, 0.5, 1e-3), "rmsprop": RMSProp(0.5, 1e-3)}[which]
        flow = solve(START, bowl, 1.0, dynamics=dynamics, solver="dopri8", rtol=1e-9, atol=1e-12)
        gaps.append(np.abs(np.asarray(theta) - np.asarray(flow.model.theta)).max())
    assert gaps[0] < 2e-2
    assert 1.5 < gaps[0] / gaps[1] < 2.7


@pytest.mark.slow  # Kvaerno's method compiles for seconds
def test_a_stock_implicit_solver_serves():
    settings = {"dynamics": Adam(0.2, 0.5, 1e-3), "rtol": 1e-8}
    implicit = solve(START, bowl, 2.0, solver="kvaerno5", **settings)
    explicit = solve(START, bowl, 2.0, solver="dopri8", **settings)
    np.testing.assert_allclose(implicit.model.theta, explicit.model.theta, atol=1e-6)


def test_gradients_may_begin_at_zero():
    # Below a read-out of zeros; stages of a step overshoot to negative averages of squares.
    lift = flowlift.sample(
        modules.mlp(2, depth=2), copies=4, edges=flowlift.BernoulliInDegree(3), seed=0
    )
    task, dynamics = tasks.periodic({1: 1.0}, samples=8), RMSProp(1.0, 1e-3)
    solution = solve(lift, task, 0.3, dynamics=dynamics, solver="tsit5", rtol=1e-5)
    assert solution.success
    np.testing.assert_allclose(solution.energy, solution.loss[0] - solution.loss, atol=1e-4)


def test_auto_is_explicit_and_says_so():
    solution = solve(START, bowl, 1.0, dynamics=Adam(0.2, 0.5))
    assert solution.solvers == ("tsit5",)
    assert "Adam" in solution.solver


@pytest.mark.parametrize("solver", ["bdf", "dense-bdf", "rkc2", "exprb"])
def test_symmetric_solvers_refuse(solver):
    with pytest.raises(ValueError, match="symmetric Jacobian"):
        solve(START, bowl, 1.0, dynamics=Adam(0.2, 0.5), solver=solver)


@pytest.mark.parametrize("make", [lambda: Adam(0.0, 1.0), lambda: Adam(1.0, -1.0)])
def test_times_are_positive(make):
    with pytest.raises(ValueError, match="positive number"):
        make()
    with pytest.raises(ValueError, match="at least 0"):
        RMSProp(1.0, -1e-8)
