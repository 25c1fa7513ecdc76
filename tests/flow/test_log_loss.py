"""The flow of log L: exponential integrals to t = e^1000, the plain flow, margins, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from flowlift import tasks
from flowlift.flow import LogLoss, LogLossBelow, solve
from flowlift.tasks.losses import log_softplus


class Product(eqx.Module):
    """q = a w x, balanced from the start."""

    a: jax.Array
    w: jax.Array

    def __call__(self, x):
        return self.a * self.w * x


Q0 = 0.5
BALANCED = Product(*[jnp.sqrt(jnp.array([Q0]))] * 2)
ONE = tasks.supervised(np.ones((1, 1)), np.ones((1, 1)), "exponential")


def log_time(q):
    """log t of L = e^-q with q' = 2 q L: Ei(q) - Ei(q_0) = 2 t, for q > 30."""
    # Asymptotic, up to the terms that 1 / q^20 makes.
    series = np.cumprod(np.arange(1, 21)[:, None] / q, axis=0).sum(axis=0)
    # Ei(q_0) = 0.45 is nothing beside e^30.
    return q - np.log(q) + np.log1p(series) - np.log(2)


@pytest.mark.parametrize(
    ("solver", "end", "bound"),
    [("bdf", 1000.0, 2e-5), ("tsit5", 150.0, 5e-5), ("rkc2", 150.0, 2e-4)],
)
def test_times_of_e_to_the_thousand_are_those_of_the_exponential_integral(solver, end, bound):
    solution = solve(BALANCED, ONE, end, dynamics=LogLoss(2.0), solver=solver, rtol=1e-7)
    assert solution.success
    q = -solution.observations["log_loss"]
    late = q > 30
    np.testing.assert_allclose(
        log_time(q[late]), solution.observations["log_time"][late], atol=bound
    )
    assert q[-1] > end
    # Balanced: |theta|^2 = 2 q.
    np.testing.assert_allclose(solution.observations["normalised_margin"], 0.5, rtol=1e-6)
    if end > 800:
        assert solution.loss[-1] == 0


def test_the_early_times_are_exact_too():
    solution = solve(BALANCED, ONE, 5.0, dynamics=LogLoss(), solver="bdf", rtol=1e-8)
    q, time = -solution.observations["log_loss"], np.expm1(solution.times)
    exact = (scipy.special.expi(q) - scipy.special.expi(Q0)) / 2
    np.testing.assert_allclose(time, exact, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(solution.energy, solution.loss[0] - solution.loss, atol=1e-6)
    assert np.isnan(solution.observations["normalised_margin"]).all()


def clouds():
    x = np.random.default_rng(0).standard_normal((12, 2)) + np.array([2.0, 1.0])
    x[6:] *= -1
    return x, np.repeat([0, 1], 6)


# Two compilations of a stiff flow each: one loss is enough by default.
@pytest.mark.parametrize(
    "loss", [pytest.param("cross-entropy", marks=pytest.mark.slow), "logistic"]
)
def test_the_plain_flow_agrees_while_both_run(loss):
    x, labels = clouds()
    outputs = 2 if loss == "cross-entropy" else 1
    targets = labels if outputs == 2 else (2.0 * labels - 1)[:, None]
    task = tasks.supervised(x, targets, loss)
    model = eqx.nn.MLP(2, outputs, 4, 1, jnp.tanh, key=jax.random.key(1))
    times = np.array([0.0, 1.0, 10.0, 100.0])
    plain = solve(model, task, 100.0, solver="bdf", rtol=1e-8, save=times)
    logarithmic = solve(
        model, task, float(np.log1p(100.0)), dynamics=LogLoss(), solver="bdf", rtol=1e-8,
        save=np.log1p(times),
    )  # fmt: skip
    np.testing.assert_allclose(logarithmic.loss, plain.loss, rtol=1e-4)
    np.testing.assert_allclose(logarithmic.arc_length, plain.arc_length, rtol=1e-4)
    arrays = lambda m: jax.tree.leaves(eqx.filter(m, eqx.is_array))
    weights = lambda m: np.concatenate([np.ravel(z) for z in arrays(m)])
    np.testing.assert_allclose(weights(logarithmic.model), weights(plain.model), atol=1e-4)
    np.testing.assert_allclose(np.exp(logarithmic.observations["log_loss"]), plain.loss, rtol=1e-4)


@pytest.mark.slow  # a long flow
def test_the_margin_never_falls_once_the_sum_is_below_one():
    class Homogeneous(eqx.Module):
        w: jax.Array
        a: jax.Array

        def __call__(self, x):
            return self.a @ jax.nn.relu(self.w @ x)

    rng = np.random.default_rng(3)
    model = Homogeneous(jnp.asarray(rng.normal(size=(6, 2))), jnp.asarray(rng.normal(size=(1, 6))))
    x, labels = clouds()
    task = tasks.supervised(x, (2.0 * labels - 1)[:, None], "exponential")
    solution = solve(model, task, 200.0, dynamics=LogLoss(2.0), solver="tsit5", rtol=1e-5)
    assert solution.success
    below = solution.observations["log_loss"] + np.log(12) < 0
    assert below[-1]
    assert (np.diff(solution.observations["normalised_margin"][below]) > -1e-6).all()


def test_a_flow_ends_at_a_loss_that_has_no_number():
    stop = LogLossBelow(-800.0)
    solution = solve(BALANCED, ONE, 1000.0, dynamics=LogLoss(), solver="bdf", stops=[stop])
    log_loss = solution.observations["log_loss"]
    assert solution.result.value == "rule"
    assert log_loss[-1] <= -800 < log_loss[-2]


@pytest.mark.slow  # flows to e^-1000
def test_logarithms_of_small_losses():
    x = np.array([-1000.0, -40.0, -20.0 - 1e-9, -20.0 + 1e-9, -5.0, 0.0, 5.0, 900.0])
    exact = np.where(x > -30, np.log(np.logaddexp(0, np.maximum(x, -30))), x)
    np.testing.assert_allclose(log_softplus(jnp.asarray(x)), exact, rtol=1e-13)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(log_softplus))(jnp.asarray(x[:2])), 1.0, rtol=1e-12
    )
    loss = tasks.CrossEntropy()
    logits = jnp.array([[3.0, 1.0, -2.0], [900.0, 0.0, 0.0]])
    labels = jnp.array([0, 0])
    found = loss.log_per_sample(logits, labels)
    assert found[0] == pytest.approx(np.log(loss.per_sample(logits, labels)[0]), rel=1e-13)
    assert found[1] == pytest.approx(np.log(2) - 900.0, rel=1e-13)


def test_logarithms_of_single_losses_are_single():
    one = jax.tree.map(lambda a: jnp.asarray(a, "float32"), (tasks.LogOf(ONE.objective), BALANCED))
    assert one[0](one[1]).dtype == jnp.float32


@pytest.mark.parametrize(
    ("task", "settings", "match"),
    [
        (tasks.supervised(np.ones((1, 1)), np.ones((1, 1))), {}, "has SquaredLoss"),
        (lambda m: jnp.sum(m.a), {}, "must have samples"),
        (tasks.with_decay(ONE, 0.1), {}, "samples alone for LogLoss.* but has Decay"),
        (ONE, {"memory": 1 << 20}, "no sum over chunks"),
        (ONE, {"solver": "exprb"}, "for LogLoss"),
        (ONE, {"dynamics": None, "stops": [LogLossBelow(-3.0)]}, "reads 'log_loss'"),
    ],
)
def test_what_has_no_logarithm_is_refused(task, settings, match):
    options = {"dynamics": LogLoss()} | settings
    options = {k: v for k, v in options.items() if v is not None}
    with pytest.raises(ValueError, match=match):
        solve(BALANCED, task, 1.0, **options)


def test_losses_of_margins_take_signs_alone():
    with pytest.raises(ValueError, match=r"must be \+1 or -1"):
        solve(BALANCED, tasks.supervised(np.ones((1, 1)), np.zeros((1, 1)), "logistic"), 1.0)
    with pytest.raises(ValueError, match="homogeneity"):
        LogLoss(-1.0)
