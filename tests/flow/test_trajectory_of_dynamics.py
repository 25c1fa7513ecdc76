"""Pure flows of momentum, Adam, RMSProp, log L: against closed forms, `solve`, differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import flow, modules, tasks, trajectory
from flowlift.flow.dynamics import CentralFlow

START, TIMES = jnp.array([1.0, -0.5]), [0.0, 0.4, 2.0]
CURVES = jnp.array([1.0, 6.0])
X = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -0.5]])
SIGNS = tasks.supervised(
    X, np.array([1.0, 1.0, -1.0, -1.0]), "exponential", apply=lambda m, x: x @ m
)


def bowl(w):
    return jnp.sum(CURVES.astype(w.dtype) * w**2) / 2


@pytest.mark.slow  # compiles a second-order flow whole
def test_a_heavy_ball_is_a_damped_oscillation():
    found = trajectory(START, bowl, TIMES, dynamics=flow.HeavyBall(1.0), rtol=1e-8, atol=1e-10)
    t, a = np.asarray(TIMES)[:, None], np.asarray(CURVES)
    swing = np.sqrt(a - 0.25)
    wave = np.cos(swing * t) + 0.5 / swing * np.sin(swing * t)
    assert found.success
    np.testing.assert_allclose(found.models, START * np.exp(-t / 2) * wave, atol=1e-6)
    with pytest.raises(ValueError, match="must begin with zeros, but CentralFlow asks"):
        trajectory(START, bowl, TIMES, dynamics=CentralFlow(0.1))
    with pytest.raises(ValueError, match="a loss whose logarithm does not underflow"):
        trajectory(START, bowl, TIMES, dynamics=flow.LogLoss())


CASES = {
    "nesterov": (flow.Nesterov(), bowl),
    "adam": (flow.Adam(0.5, 2.0, 1e-3), bowl),
    "rmsprop": (flow.RMSProp(0.5, 1e-2), bowl),
    "log-loss": (flow.LogLoss(1.0), SIGNS),
    "heavy ball": (flow.HeavyBall(0.5), bowl),
}


@pytest.mark.slow  # Each compiles a solve of its own.
@pytest.mark.parametrize(("precision", "rtol"), [("float64", 1e-8), ("float32", 1e-5)])
@pytest.mark.parametrize("rates", [None, {"*": 0.25}])
@pytest.mark.parametrize("name", CASES)
def test_trajectories_are_those_of_solve(name, rates, precision, rtol):
    dynamics, task = CASES[name]
    settings = {"dynamics": dynamics, "rates": rates, "rtol": rtol, "atol": 1e-3 * rtol}
    pure = trajectory(START, task, TIMES, precision=precision, **settings)
    other = flowlift.solve(START, task, TIMES[-1], save=TIMES[1:], solver="dopri8", **settings)
    assert pure.success
    assert pure.losses.dtype == precision
    np.testing.assert_allclose(pure.losses, other.loss, rtol=300 * rtol, atol=300 * rtol)
    np.testing.assert_allclose(pure.models[-1], other.model, atol=300 * rtol)


@pytest.mark.slow  # Compiles derivatives of whole solves.
@pytest.mark.parametrize("name", CASES)
def test_derivatives_by_the_start_are_those_of_differences(name):
    dynamics, task = CASES[name]

    def end(w):
        return trajectory(w, task, TIMES, dynamics=dynamics, rtol=1e-9, atol=1e-12).losses[-1]

    slope, step = jax.grad(end)(START), 1e-4
    for i, along in enumerate(np.eye(2)):
        ends = jnp.stack([START + step * along, START - step * along])
        above, below = jax.vmap(end)(ends)
        assert float(slope[i]) == pytest.approx(
            float(above - below) / (2 * step), rel=1e-3, abs=1e-9
        )


@pytest.mark.slow  # A lift with padding, traced.
def test_padding_takes_no_part_and_programs_are_compiled():
    lift = flowlift.sample(
        modules.mlp(2, depth=2), copies=5, edges=flowlift.BernoulliInDegree(2.0), seed=0
    )
    task, ball = tasks.periodic({1: 1.0}, samples=8), flow.HeavyBall(1.0)
    run = jax.jit(lambda m: trajectory(m, task, [0.5, 1.0], dynamics=ball, rtol=1e-7).losses)
    other = flowlift.solve(lift, task, 1.0, dynamics=ball, save=[0.5], rtol=1e-8)
    np.testing.assert_allclose(run(lift), other.loss[1:], rtol=1e-5)
