"""Steps of optimisers beside flows: published and predicted numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import tasks
from flowlift.compare import (
    Optimiser,
    adam,
    compare_with_steps,
    gradient_descent,
    momentum,
    rmsprop,
)
from flowlift.flow import solve
from flowlift.flow.dynamics import CentralFlow, CentralRMSProp, GradientFlow, HeavyBall

START = jnp.asarray([0.25, 1.4, 1.6, 0.5])
ETA = 0.36


def quartic(w):
    return 0.5 * (jnp.prod(w) - 1) ** 2


def bowl(w):
    return 0.5 * jnp.sum(jnp.asarray([1.0, 3.0]) * w**2)


def sharpness(theta):
    return np.linalg.eigvalsh(jax.hessian(quartic)(theta))[-1]


def network(width=8, samples=8):
    """A tanh network of 97 parameters on a sine, and the task."""
    x = np.linspace(-1, 1, samples)[:, None]
    task = tasks.supervised(jnp.asarray(x), jnp.asarray(np.sin(4 * x)))
    model = eqx.nn.MLP(1, 1, width, 2, jnp.tanh, key=jax.random.key(2), dtype=jnp.float64)
    rng = np.random.default_rng(2)
    for i, layer in enumerate(model.layers):
        weight = rng.normal(size=layer.weight.shape) / layer.weight.shape[1] ** 0.5
        new = (jnp.asarray(weight), jnp.zeros(layer.bias.shape))
        model = eqx.tree_at(lambda m, i=i: (m.layers[i].weight, m.layers[i].bias), model, new)
    return model, task


def test_steps_are_those_of_the_optimiser_and_flows_are_met_at_their_times():
    """On a quadratic both have closed forms."""
    eta, rates = 0.1, np.array([1.0, 3.0])
    start = jnp.asarray([1.0, -2.0])
    data = compare_with_steps(start, bowl, gradient_descent(eta), 20, every=5, window=3)
    k = data.step.values[:, None]
    np.testing.assert_allclose(data.time, eta * k[:, 0], rtol=1e-12)
    stepped, flown = start * (1 - eta * rates) ** k, start * np.exp(-eta * rates * k)
    loss = lambda theta: 0.5 * np.sum(rates * theta**2, axis=-1)
    np.testing.assert_allclose(data.step_loss, loss(stepped), rtol=1e-12)
    np.testing.assert_allclose(data.loss[0], loss(flown), rtol=1e-4)
    np.testing.assert_array_equal(data.predicted_loss, data.loss)
    apart = np.linalg.norm(stepped - flown, axis=1)
    np.testing.assert_allclose(data.distance[0], apart, atol=1e-5)
    around = [loss(start * (1 - eta * rates) ** (k + j)) for j in (-1, 0, 1)]
    np.testing.assert_allclose(data.mean_loss[1:-1], np.mean(around, axis=0)[1:-1], rtol=1e-12)
    assert "function_distance" not in data


def test_the_centre_of_an_oscillation_of_period_two_does_not_oscillate():
    """Steps of 2 / S turn an eigenvector's sign for ever; the flow goes to its middle."""
    only = lambda w: 0.5 * jnp.sum(w**2)
    data = compare_with_steps(jnp.ones(1), only, gradient_descent(2.0), 12, every=4)
    np.testing.assert_allclose(data.step_loss, 0.5, rtol=1e-12)
    np.testing.assert_allclose(data.centre_distance[0, 1:], np.exp(-2.0 * data.step[1:]), atol=1e-6)
    assert float(data.distance[0, -1]) == pytest.approx(1.0)


def test_optimisers_are_optaxs():
    theta, gradient = jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, -1.0])
    expected = {
        "momentum": [-0.01 * gradient, -0.019 * gradient],
        "rmsprop": [-0.01 * gradient / jnp.sqrt(0.9 * 0.2 + 0.1 * gradient**2)],
        "adam": [-0.01 * jnp.sign(gradient)],
    }
    made = (momentum(0.01, 0.9), rmsprop(0.01, 0.9, 0.2), adam(0.01))
    for optimiser in made:
        state = optimiser.transformation.init(theta)
        for change in expected[optimiser.name]:
            update, state = optimiser.transformation.update(gradient, state, theta)
            np.testing.assert_allclose(update, change, rtol=1e-5)
    assert [o.time for o in made] == [pytest.approx(0.1), 0.01, 0.01]


# The heavy ball's program and another one of optax.
@pytest.mark.slow
def test_momentum_follows_the_heavy_ball():
    """By half the step, half the distance: h = sqrt(eta), g = (1 - b) / h."""
    apart = []
    for h in (0.1, 0.05):
        data = compare_with_steps(
            jnp.asarray([1.0, -2.0]),
            bowl,
            momentum(h**2, 1 - 0.5 * h),
            round(4 / h),
            flows={"heavy ball": HeavyBall(0.5)},
            every=round(1 / h),
        )
        apart.append(data.distance[0, -1].item())
    assert 0.35 < apart[1] / apart[0] < 0.65


# Of the central flow the compilation alone takes seconds.
@pytest.mark.slow
def test_the_central_flow_predicts_what_gradient_descent_does_at_the_edge():
    """w1 w2 w3 w4 = 1, eta = .36: sharpness at the end 5.936, 5.556, 5.492; mean losses."""
    flows = {"gradient flow": GradientFlow(), "central flow": CentralFlow(ETA, 2)}
    data = compare_with_steps(START, quartic, gradient_descent(ETA), 300, flows=flows, every=1)
    between = slice(21, 61)
    assert float(data.step_loss[between].mean()) == pytest.approx(0.00307, abs=5e-6)
    predicted = data.predicted_loss.sel(flow="central flow")[between].mean()
    assert float(predicted) == pytest.approx(0.00327, abs=5e-6)
    assert float(data.loss.sel(flow="gradient flow")[between].mean()) < 1e-12
    solution = flow_to_the_end(CentralFlow(ETA, 2))
    assert solution.observations["eigenvalues"][-1, 0] == pytest.approx(5.556, abs=5e-4)
    assert sharpness(solution.model) == pytest.approx(5.556, abs=5e-4)
    assert sharpness(flow_to_the_end(GradientFlow()).model) == pytest.approx(5.936, abs=5e-4)
    theta = START
    for _ in range(3000):
        theta = descended(theta)
    assert sharpness(theta) == pytest.approx(5.492, abs=5e-4)
    # In theta, too: to the end of the central flow it is a fifth of the way to that of the other.
    plain, central = data.centre_distance.values[:, -1]
    assert central < 0.2 * plain


@jax.jit
def descended(theta):
    return theta - ETA * jax.grad(quartic)(theta)


def flow_to_the_end(dynamics):
    return solve(START, quartic, 300 * ETA, dynamics=dynamics)


# Flows of seconds each: the plain one is as stiff as 40, the other makes ten evaluations a step.
@pytest.mark.slow
def test_a_network_beyond_the_edge_loses_on_average_what_is_predicted():
    """2 / eta = 20; the flow's sharpness would be 40. All steps after the edge has settled."""
    model, task = network()
    eta = 0.1
    flows = {"gradient flow": GradientFlow(), "central flow": CentralFlow(eta, 3)}
    data = compare_with_steps(
        model, task, gradient_descent(eta), 800, flows=flows, every=5, window=5
    )
    later = data.isel(step=data.step.values >= 300)
    mean = float(later.mean_loss.mean())
    plain, central = later.predicted_loss.mean("step").values
    assert abs(central / mean - 1) < 0.1
    assert abs(plain / mean - 1) > 0.5
    distances = later.mean("step")
    for name in ("centre_distance", "centre_function_distance"):
        plain, central = distances[name].values
        assert central < 0.2 * plain


@pytest.mark.slow
def test_the_central_flow_of_rmsprop_predicts_its_mean_loss():
    """Two eigenvalues at the edge, b = .99."""
    model, task = network()
    flows = {"central": CentralRMSProp(0.01, 0.99, 0.01, eigenvalues=4)}
    optimiser = rmsprop(0.01, 0.99, 0.01)
    data = compare_with_steps(
        model, task, optimiser, 500, flows=flows, every=5, window=5, rtol=1e-5, atol=1e-8
    )
    later = data.isel(step=data.step.values >= 200).mean("step")
    assert float(later.predicted_loss[0] / later.mean_loss) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: gradient_descent(0.0), "`step_size` must be positive and finite, but is 0.0"),
        (lambda: momentum(0.1, 1.0), "`decay` must be positive and below 1, but is 1.0"),
        (lambda: Optimiser("mine", None, 1.0), "`transformation` must be an optax"),
        (lambda: compare_with_steps(START, quartic, "adam", 3), "`optimiser` must be a flowlift"),
        (
            lambda: compare_with_steps(START, quartic, gradient_descent(0.1), 0),
            "`steps` must be an integer of at least 1",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_rates_multiply_the_changes_of_the_optimiser_and_the_flow_alike():
    """theta' = -D S theta, coordinate by coordinate; adam's first step is eta D sign."""
    d, s, start = np.array([2.0, 0.5]), np.array([1.0, 3.0]), np.array([1.0, -2.0])
    model = {"a": jnp.asarray(start[:1]), "b": jnp.asarray(start[1:])}
    loss = lambda m: 0.5 * jnp.sum(m["a"] ** 2) + 1.5 * jnp.sum(m["b"] ** 2)
    rates = {"a": 2.0, "b": 0.5}
    data = compare_with_steps(model, loss, gradient_descent(0.1), 10, every=5, rates=rates)
    k = data.step.values[:, None]
    stepped, flown = start * (1 - 0.1 * d * s) ** k, start * np.exp(-0.1 * d * s * k)
    np.testing.assert_allclose(data.step_loss, 0.5 * np.sum(s * stepped**2, axis=1), rtol=1e-12)
    np.testing.assert_allclose(data.distance[0], np.linalg.norm(stepped - flown, axis=1), atol=1e-5)
    once = compare_with_steps(model, loss, adam(0.1), 1, rates=rates)
    after = start - 0.1 * d * np.sign(start)
    assert float(once.step_loss[1]) == pytest.approx(0.5 * np.sum(s * after**2), rel=1e-6)
