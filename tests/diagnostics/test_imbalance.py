"""Imbalances: conserved for linear and ReLU units, and else changing as activations say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import diagnostics, modules, solve, tasks
from flowlift.diagnostics import imbalance, imbalance_defect, measure_along, observer
from flowlift.flow import CentralFlow, HeavyBall
from flowlift.flow.rates import all_rates
from flowlift.leaves import leaf_names
from flowlift.lift import BernoulliInDegree, Complete, FixedInDegree, sample

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 3)), RNG.standard_normal(12)
VECTORS = tasks.supervised(X, Y)
IMAGES = tasks.supervised(RNG.standard_normal((6, 1, 8, 8)), RNG.integers(0, 3, 6), "cross-entropy")


def moved(model):
    """The same model with other weights everywhere, read-outs too, and padding left at 0."""
    mask = model.live() if hasattr(model, "live") else None
    noise = lambda w: w + 0.3 * RNG.standard_normal(w.shape)
    changed = jax.tree.map(lambda w: noise(w) if eqx.is_inexact_array(w) else w, model)
    if mask is None:
        return changed
    live = {n: jnp.where(mask.weights[n], w, 0) for n, w in changed.weights.items()}
    return eqx.tree_at(lambda m: m.weights, model, live)


def along_the_flow(model, task, rates=None):
    """dI/dt by differentiating I in the direction of -D grad L: no activations."""
    theta, rest = eqx.partition(model, eqx.is_inexact_array)
    slope = jax.grad(lambda at: task.objective(eqx.combine(at, rest)))(theta)
    speeds = all_rates(model, eqx.is_inexact_array, rates).values()
    leaves, structure = jax.tree.flatten(slope)
    downhill = structure.unflatten([-d * g for d, g in zip(speeds, leaves, strict=True)])
    value = lambda at: imbalance(eqx.combine(at, rest), task, rates=rates).value
    return jax.jvp(value, (theta,), (downhill,))[1]


def lift(activation, edges=None, depth=2):
    module = modules.mlp(3, depth=depth, activation=activation)
    return moved(sample(module, copies=5, edges=edges or FixedInDegree(2), seed=0))


def conv_lift():
    module = modules.cnn2d(8, 8, 1, 3, pool=2)
    return moved(sample(module, copies=3, edges=Complete(), seed=0))


def mlp(activation=jnp.tanh):
    return eqx.nn.MLP(3, "scalar", 4, 2, activation, key=jax.random.key(0))


def cnn():
    keys = jax.random.split(jax.random.key(1), 3)
    act = eqx.nn.Lambda
    layers = [eqx.nn.Conv2d(1, 4, 3, key=keys[0]), act(jnp.tanh), eqx.nn.MaxPool2d(2, 2)]
    layers += [eqx.nn.Conv2d(4, 6, 2, groups=2, key=keys[1]), act(jax.nn.gelu), act(jnp.ravel)]
    return eqx.nn.Sequential([*layers, eqx.nn.Linear(24, 3, key=keys[2])])


CASES = {
    "sparse tanh lift": (lambda: lift("tanh"), VECTORS),
    "padded lift": (lambda: lift("softplus", BernoulliInDegree(2.0)), VECTORS),
    "convolutional lift": (conv_lift, IMAGES),
    "MLP": (mlp, VECTORS),
    "CNN with groups and pools": (cnn, IMAGES),
}


SLOWLY = pytest.mark.slow  # Programs of their own for each model, and their derivatives.
# Each compiles programs of its own for seconds; the sparse lift and the MLP stay.
SLOW = ("CNN with groups and pools", "convolutional lift", "padded lift")


@pytest.mark.slow  # differentiates whole flows
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in sorted(CASES)]
)
def test_the_rate_is_the_derivative_along_the_flow(name):
    make, task = CASES[name]
    model = make()
    found, wanted = imbalance(model, task), along_the_flow(model, task)
    assert found.rate.keys() == wanted.keys()
    assert not found.not_covered
    for unit, rate in wanted.items():
        np.testing.assert_allclose(found.rate[unit], rate, rtol=0, atol=1e-10)
    assert max(float(jnp.abs(rate).max()) for rate in wanted.values()) > 1e-4


def quartic(model):
    return sum(jnp.sum(w**4) for w in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def laden(task, model):
    """The task with all that may be added to its loss."""
    scaled = tasks.with_output(task, scale=2.0, start=model)
    return tasks.with_term(tasks.with_decay(scaled, 0.1), quartic, weight=0.3)


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOWLY) for n in sorted(CASES)])
@pytest.mark.parametrize("still", ["first", "second", "last"])
def test_rates_frozen_leaves_and_added_terms_are_in_the_law(name, still):
    make, task = CASES[name]
    model = make()
    task, names = laden(task, model), leaf_names(model)
    held = names[{"first": 0, "second": 1, "last": -1}[still]]
    rates = {held: 0.0, names[2]: 0.5, "*": 2.0}
    found, wanted = imbalance(model, task, rates=rates), along_the_flow(model, task, rates)
    for unit, rate in wanted.items():
        np.testing.assert_allclose(found.rate[unit], rate, rtol=1e-10, atol=1e-10)
    assert max(float(jnp.abs(rate).max()) for rate in wanted.values()) > 1e-4
    assert not found.matrices


def test_linear_layers_conserve_matrices_in_the_metric_of_their_rates():
    model, rates = mlp(lambda z: z), {"layers.0.weight": 3.0, "layers.1.*": 0.5}
    found = imbalance(model, VECTORS, rates=rates)
    for name, matrix in found.matrices.items():
        np.testing.assert_allclose(jnp.diag(matrix), found.value[name], atol=1e-12)
        np.testing.assert_allclose(found.rate[name], 0, atol=1e-12)
    theta, rest = eqx.partition(model, eqx.is_inexact_array)
    slope = jax.grad(lambda at: VECTORS.objective(eqx.combine(at, rest)))(theta)
    speeds = all_rates(model, eqx.is_inexact_array, rates).values()
    leaves, structure = jax.tree.flatten(slope)
    downhill = structure.unflatten([-d * g for d, g in zip(speeds, leaves, strict=True)])
    matrices = lambda at: imbalance(eqx.combine(at, rest), VECTORS, rates=rates).matrices
    for rate in jax.jvp(matrices, (theta,), (downhill,))[1].values():
        np.testing.assert_allclose(rate, 0, atol=1e-12)


@pytest.mark.slow  # A flow with records of its own, whose parts the tests above hold.
def test_the_integrated_rate_is_the_change_with_rates_and_decay():
    model = mlp()
    task, rates = laden(VECTORS, model), {"layers.0.weight": 0.0, "layers.1.weight": 3.0, "*": 0.5}
    observers = {"balance": observer("imbalance", task, rates=rates)}
    run = solve(
        model, task, 1.0, solver="tsit5", rtol=1e-8, save=np.linspace(0.02, 1.0, 50), rates=rates,
        observers=observers,
    )  # fmt: skip
    records = run.observations["balance"]
    change = np.abs(records[-1, 0] - records[0, 0]).max()
    assert imbalance_defect(run.times, records).max() < 1e-5 * change


@pytest.mark.parametrize(
    ("told", "flow", "words"),
    [
        ({}, {"rates": {"layers.0.weight": 2.0}}, "does not give it layers.0.weight 2;"),
        ({"rates": 2.0}, {}, "does not give it layers.0.weight 1"),
        ({}, {"trainable": lambda leaf: getattr(leaf, "ndim", 0) == 2}, "layers.0.bias 0"),
        ({}, {"dynamics": HeavyBall(1.0)}, "theta moves by HeavyBall"),
        ({}, {"dynamics": CentralFlow(0.1)}, "theta moves by CentralFlow"),
    ],
)
def test_the_law_of_another_flow_is_refused(told, flow, words):
    watched = {"balance": observer("imbalance", VECTORS, **told)}
    with pytest.raises(ValueError, match=words):
        solve(mlp(), VECTORS, 1.0, observers=watched, **flow)


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_relu_and_linear_units_are_conserved(activation):
    model = lift(activation)
    found = imbalance(model, VECTORS)
    for rate in found.rate.values():
        np.testing.assert_allclose(rate, 0, atol=1e-10)
    for rate in along_the_flow(model, VECTORS).values():
        np.testing.assert_allclose(rate, 0, atol=1e-10)
    relu = imbalance(mlp(jax.nn.relu), VECTORS)
    for rate in relu.rate.values():
        np.testing.assert_allclose(rate, 0, atol=1e-10)


def test_values_are_sums_of_squares_over_edges():
    model = lift("tanh")
    found, wanted = imbalance(model, VECTORS).value, {}
    for vertex in model.module.hidden:
        total = np.zeros(model.copies[vertex.name])
        for edge in model.module.edges:
            sources, targets, w = model.edges(modules.edge_name(edge))
            squares = (w**2).reshape(len(w), -1).sum(axis=1)
            if edge.source == vertex.name:
                np.add.at(total, sources, squares)
            if edge.target == vertex.name:
                np.add.at(total, targets, -squares)
        wanted[vertex.name] = total
    for name, total in wanted.items():
        np.testing.assert_allclose(found[name], total, rtol=1e-12, atol=1e-12)


def test_deep_linear_layers_conserve_whole_matrices():
    model = mlp(lambda z: z)
    found = imbalance(model, VECTORS)
    assert list(found.matrices) == ["layers[0]", "layers[1]"]
    for name, matrix in found.matrices.items():
        np.testing.assert_allclose(jnp.diag(matrix), found.value[name], atol=1e-12)
    theta, rest = eqx.partition(model, eqx.is_inexact_array)
    loss = lambda at: VECTORS.objective(eqx.combine(at, rest))
    downhill = jax.tree.map(jnp.negative, jax.grad(loss)(theta))
    matrices = lambda at: imbalance(eqx.combine(at, rest), VECTORS).matrices
    for rate in jax.jvp(matrices, (theta,), (downhill,))[1].values():
        np.testing.assert_allclose(rate, 0, atol=1e-10)
    assert not imbalance(mlp(), VECTORS).matrices


def test_the_integrated_rate_is_the_change_and_a_wrong_flow_is_found():
    save = np.linspace(0.02, 1.0, 50)
    observers = {"balance": observer("imbalance", VECTORS)}
    run = solve(mlp(), VECTORS, 1.0, solver="tsit5", rtol=1e-8, save=save, observers=observers)
    records = run.observations["balance"]
    assert records.shape == (51, 2, 8)
    change = np.abs(records[-1, 0] - records[0, 0]).max()
    assert imbalance_defect(run.times, records).max() < 1e-5 * change
    # The same states at other times: a flow that runs one per mille too fast.
    wrong = imbalance_defect(run.times * 1.001, records).max()
    assert wrong > 5e-4 * change


def test_what_does_not_act_on_each_unit_is_named():
    keys = jax.random.split(jax.random.key(1), 3)
    linear = [eqx.nn.Linear(3, 3, key=key) for key in keys]
    soft, tanh = eqx.nn.Lambda(jax.nn.softmax), eqx.nn.Lambda(jnp.tanh)
    model = eqx.nn.Sequential([linear[0], soft, linear[1], tanh, linear[2]])
    found = imbalance(model, tasks.supervised(X, X))
    assert list(found.value) == ["layers[2]"]
    assert "softmax at layers[1]" in found.not_covered["layers[0]"]


def test_snapshots_and_single_precision():
    series = measure_along({0.0: mlp(), 1.0: mlp()}, observer("imbalance", VECTORS))
    assert series.values.shape == (2, 2, 8)
    assert series.gradients == 4
    single = jax.tree.map(lambda w: w.astype("float32") if eqx.is_array(w) else w, mlp())
    found = imbalance(single, VECTORS)
    assert found.rate["layers[0]"].dtype == jnp.float32
    np.testing.assert_allclose(
        found.rate["layers[0]"], imbalance(mlp(), VECTORS).rate["layers[0]"], atol=1e-5
    )


def test_what_has_no_law_is_refused():
    with pytest.raises(ValueError, match="must have samples that the model takes itself"):
        imbalance(mlp(), lambda model: jnp.sum(model.layers[0].weight))
    with pytest.raises(ValueError, match="but has `apply`"):
        imbalance(mlp(), tasks.supervised(X, Y, apply=lambda m, x: jax.vmap(m)(x)))
    with pytest.raises(ValueError, match=r"must be a Lift, an equinox.nn.MLP or"):
        imbalance(eqx.nn.Linear(3, 3, key=jax.random.key(0)), tasks.supervised(X, X))
    with pytest.raises(ValueError, match="must have hidden units"):
        imbalance(eqx.nn.MLP(3, "scalar", 4, 0, key=jax.random.key(0)), VECTORS)
    with pytest.raises(ValueError, match="at least 4 times"):
        diagnostics.imbalance_defect(np.arange(3.0), np.zeros((3, 2, 1)))
