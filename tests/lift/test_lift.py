"""Lifts against the loops that define them, and against independent equinox networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from flowlift import modules
from flowlift.lift import (
    BernoulliInDegree,
    Complete,
    FixedInDegree,
    Gaussian,
    OneToOne,
    from_edges,
    sample,
)
from flowlift.modules import (
    Bias,
    Constant,
    Edge,
    Hidden,
    Identity,
    InnerProduct,
    Input,
    Matrix,
    Output,
    PerceptronModule,
    Pointwise,
    Scalar,
    TupleMap,
)

# Compiled whole: one by one, operations take several times as long to compile.
batch = eqx.filter_jit(lambda lift, x: lift.batch(x))
activations = eqx.filter_jit(lambda lift, x: lift.activations(x))


def rng(seed=0):
    return np.random.default_rng(seed)


def two_input_multigraph():
    """Parallel edges, two inputs, two outputs, a gate of a tuple, a residual identity."""
    return PerceptronModule(
        [
            Input("x", (3,)),
            Input("u", (), copies=4),
            Constant("1"),
            Hidden("v", Pointwise("sine"), shape=(2,)),
            Hidden("g", TupleMap(lambda a, b, c: a * jax.nn.sigmoid(b) + c)),
            Hidden("r", Pointwise("softplus")),
            Output("y", copies=2),
            Output("s", Pointwise("erf"), shape=(2,)),
        ],
        [
            Edge("x", "v", Matrix(2)),
            Edge("1", "v", Bias((2,))),
            Edge("v", "g", InnerProduct()),
            Edge("v", "g", InnerProduct()),
            Edge("u", "g", Scalar()),
            Edge("g", "r", Identity()),
            Edge("u", "r", Scalar()),
            Edge("r", "y", Scalar()),
            Edge("v", "s", Scalar()),
        ],
    )


def multigraph_lift(seed=0):
    return sample(
        two_input_multigraph(),
        copies={"v": 3, "g": 5, "r": 5},
        edges={"*": BernoulliInDegree(2), "g->r": OneToOne(), "v->g": FixedInDegree(2)},
        weights={"*": Gaussian(), "r->y": Gaussian(), "v->s": Gaussian()},
        seed=seed,
    )


CASES = {
    "mlp": (modules.mlp(4, depth=2), {"h1": 5, "h2": 6}, (4,)),
    "scalar inputs": (modules.mlp(4, 3, depth=2, vector_input=False), {"h1": 5, "h2": 6}, (4,)),
    "skips": (modules.mlp_with_skips(3, 2, depth=3, activation="softplus"), 4, (3,)),
    "attention": (modules.attention(3, 2, 2, head_channels=3), {"a": 4, "m": 5}, (3, 2)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("law", [BernoulliInDegree(2), FixedInDegree(2), Complete()])
def test_lift_is_what_the_loops_say(name, law):
    module, copies, shape = CASES[name]
    weights = {edge: Gaussian() for edge in module.edge_by_name}
    lift = sample(module, copies=copies, edges=law, weights=weights, seed=1)
    x = rng().standard_normal((3, *shape))

    @eqx.filter_jit
    def ways(lift, x):
        return lift.batch(x), lift(x[0]), jax.vmap(lift)(x)

    together, one, each = ways(lift, jnp.asarray(x))
    np.testing.assert_allclose(together, naive.evaluate(lift, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one, together[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(each, together, rtol=1e-12, atol=1e-12)


@pytest.mark.slow  # compiles a graph of its own
def test_multigraph_with_two_inputs_and_outputs_is_what_the_loops_say():
    lift = multigraph_lift()
    xs = {"x": rng(1).standard_normal((3, 3)), "u": rng(2).standard_normal((3, 4))}
    expected = naive.evaluate(lift, xs)
    assert set(expected) == {"y", "s"}
    for name, value in lift.batch(xs).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-12)


def test_naive_evaluator_sees_a_changed_weight():
    """The helper that everything is compared with must not be blind."""
    lift = multigraph_lift()
    xs = {"x": rng(1).standard_normal((2, 3)), "u": rng(2).standard_normal((2, 4))}
    moved = eqx.tree_at(lambda m: m.weights["u->g"], lift, replace_fn=lambda w: w + 0.1)
    assert np.abs(naive.evaluate(lift, xs)["y"] - naive.evaluate(moved, xs)["y"]).max() > 1e-3


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_complete_lift_of_a_path_is_the_ordinary_mlp(precision):
    mlp = eqx.nn.MLP(4, 3, 8, 2, activation=jnp.tanh, key=jax.random.key(0), dtype=precision)
    lift = sample(modules.mlp(4, 3), copies=8, edges=Complete(), seed=0, precision=precision)
    names = ["x->h1", "h1->h2", "h2->y"], ["1->h1", "1->h2", "1->y"]
    weights = dict(lift.weights)
    for edge, bias, layer in zip(*names, mlp.layers, strict=True):
        weights[edge] = layer.weight.reshape(weights[edge].shape)
        weights[bias] = layer.bias
    lift = eqx.tree_at(lambda m: m.weights, lift, weights)
    x = rng().standard_normal((5, 4)).astype(precision)
    atol = 1e-13 if precision == "float64" else 2e-6

    def loss(model, predict):
        y = predict(model)
        return jnp.sum(y**2), y

    @eqx.filter_jit
    def both(lift, mlp):
        gradient = eqx.filter_grad(loss, has_aux=True)
        return gradient(lift, lambda m: m.batch(x)), gradient(mlp, lambda m: jax.vmap(m)(x))

    (ours, our_outputs), (theirs, their_outputs) = both(lift, mlp)
    np.testing.assert_allclose(our_outputs, their_outputs, atol=atol)
    for edge, bias, layer in zip(*names, theirs.layers, strict=True):
        np.testing.assert_allclose(
            ours.weights[edge].reshape(layer.weight.shape), layer.weight, atol=20 * atol
        )
        np.testing.assert_allclose(ours.weights[bias], layer.bias, atol=20 * atol)


def test_attention_lift_is_independent_attention_code():
    tokens, channels, r, heads, units = 4, 3, 2, 5, 6
    module = modules.attention(tokens, channels, 3, head_channels=r)
    weights = {name: Gaussian() for name in module.edge_by_name}
    lift = sample(
        module, copies={"a": heads, "m": units}, edges=Complete(), weights=weights, seed=3
    )
    w = {name: np.asarray(value) for name, value in lift.weights.items()}

    def network(x):
        q, k, s = (jnp.einsum("hrc,tc->htr", w[name], x) for name in "qks")
        mixed = jax.nn.softmax(jnp.einsum("htr,hur->htu", q, k) / np.sqrt(r)) @ s
        hidden = jnp.einsum("mhr,htr->mt", w["a->m"].reshape(units, heads, r), mixed)
        hidden = jnp.tanh(hidden + w["1->m"])
        return w["m->y"].reshape(3, units) @ hidden.mean(axis=1) + w["1->y"]

    x = rng().standard_normal((6, tokens, channels))
    np.testing.assert_allclose(batch(lift, x), jax.jit(jax.vmap(network))(x), atol=1e-12)


def test_skip_lift_is_independent_skip_code():
    module = modules.mlp_with_skips(3, depth=2)
    weights = {name: Gaussian() for name in module.edge_by_name}
    lift = sample(module, copies=4, edges=FixedInDegree(2), weights=weights, seed=3)
    dense = {}
    for name in ("h1->h2", "h1->y", "h2->y"):
        sources, targets, values = lift.edges(name)
        edge = module.edge_by_name[name]
        dense[name] = np.zeros((lift.copies[edge.target], lift.copies[edge.source]))
        dense[name][targets, sources] = values
    w = {name: np.asarray(value) for name, value in lift.weights.items()}

    def network(x):
        h1 = jnp.tanh(w["x->h1"] @ x + w["1->h1"])
        h2 = jnp.tanh(w["x->h2"] @ x + dense["h1->h2"] @ h1 + w["1->h2"])
        return (w["x->y"] @ x + dense["h1->y"] @ h1 + dense["h2->y"] @ h2 + w["1->y"])[0]

    x = rng().standard_normal((6, 3))
    np.testing.assert_allclose(batch(lift, x), jax.jit(jax.vmap(network))(x), atol=1e-12)


@pytest.mark.parametrize(
    "module",
    [
        modules.mlp(3, depth=3),
        modules.mlp_with_skips(3, depth=2),
        modules.attention(3, 2, head_channels=2),
    ],
    ids=["mlp", "skips", "attention"],
)
def test_fibration_with_copied_weights_copies_the_base_module(module):
    """Theory, section 2: in-degree one over every base edge, equal weights, equal activations."""
    generator = rng(5)
    values = {
        name: generator.standard_normal(module.weight_shape(edge))
        for name, edge in module.edge_by_name.items()
    }

    def fibration(copies):
        sizes = {v.name: copies for v in module.hidden} | {"x": 1, "1": 1, "y": 1}
        edges = {}
        for name, edge in module.edge_by_name.items():
            n = sizes[edge.target]
            sources = generator.integers(0, sizes[edge.source], n)
            edges[name] = (
                sources,
                np.arange(n),
                np.broadcast_to(values[name], (n, *values[name].shape)),
            )
        return from_edges(module, copies=copies, edges=edges)

    base, lift = fibration(1), fibration(7)
    x = generator.standard_normal((4, *module.inputs[0].shape))
    small, large = activations(base, x), activations(lift, x)
    for vertex in module.order:
        for copy in range(lift.copies[vertex]):
            np.testing.assert_allclose(large[vertex][copy], small[vertex][0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(batch(lift, x), batch(base, x), rtol=0, atol=1e-14)


def test_duplicating_a_vertex_and_splitting_its_outgoing_weights_changes_nothing():
    module = modules.mlp(3, depth=2)
    weights = {name: Gaussian() for name in module.edge_by_name}
    lift = sample(module, copies=4, edges=FixedInDegree(3), weights=weights, seed=0)
    edges = {name: [np.array(a) for a in lift.edges(name)] for name in module.edge_by_name}
    for name in ("x->h1", "1->h1"):
        sources, targets, w = edges[name]
        into = targets == 0
        edges[name] = [
            np.append(sources, sources[into]),
            np.append(targets, np.full(into.sum(), 4)),
            np.concatenate([w, w[into]]),
        ]
    sources, targets, w = edges["h1->h2"]
    out = sources == 0
    assert out.any()
    share = np.where(out, 0.3, 1.0)
    edges["h1->h2"] = [
        np.append(sources, np.full(out.sum(), 4)),
        np.append(targets, targets[out]),
        np.append(w * share, 0.7 * w[out]),
    ]
    larger = from_edges(module, copies={"h1": 5, "h2": 4}, edges=edges)
    x = rng().standard_normal((6, 3))
    np.testing.assert_allclose(batch(larger, x), batch(lift, x), rtol=0, atol=1e-13)


def test_inexact_leaves_are_exactly_the_weights():
    lift = multigraph_lift()
    leaves = jax.tree.leaves(eqx.filter(lift, eqx.is_inexact_array))
    assert sum(a.size for a in leaves) == sum(w.size for w in lift.weights.values())
    assert len(leaves) == len(lift.weights)


def test_padding_never_contributes_nor_trains():
    lift = sample(
        modules.mlp(3, depth=2),
        copies=20,
        edges=BernoulliInDegree(3),
        seed=0,
        weights=dict.fromkeys(modules.mlp(3, depth=2).edge_by_name, Gaussian()),
    )
    name, count = "h1->h2", int(lift.fibres["h1->h2"].count)
    assert lift.weights[name].size > count
    x = rng().standard_normal((4, 3))
    poisoned = eqx.tree_at(
        lambda m: m.weights[name], lift, replace_fn=lambda w: w.at[count:].set(7)
    )
    np.testing.assert_array_equal(batch(lift, x), batch(poisoned, x))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m.batch(x) ** 2)))(poisoned)
    assert np.all(np.asarray(gradient.weights[name])[count:] == 0)
    assert np.any(np.asarray(gradient.weights[name])[:count] != 0)


def test_two_seeds_share_one_compilation():
    traces = []

    @eqx.filter_jit
    def evaluate(lift, x):
        traces.append(1)
        return lift.batch(x)

    x = rng().standard_normal((4, 3))
    module = modules.mlp(3, depth=2)
    for seed in range(4):
        evaluate(sample(module, copies=30, edges=BernoulliInDegree(3), seed=seed), x)
    assert len(traces) == 1


def test_a_copy_without_entering_edges_is_legal():
    module = modules.mlp(2, depth=2, bias=False)
    edges = {
        "x->h1": (np.zeros(2, int), np.arange(2), np.ones((2, 2))),
        "h1->h2": (np.array([0]), np.array([1]), np.array([1.0])),
        "h2->y": (np.arange(2), np.zeros(2, int), np.array([5.0, 1.0])),
    }
    lift = from_edges(module, copies=2, edges=edges)
    x = np.array([[0.3, 0.4]])
    np.testing.assert_allclose(lift.batch(x), np.tanh(np.tanh(0.7)), rtol=1e-14)


def test_counts_are_those_of_the_real_edges():
    lift = sample(modules.mlp(3, depth=2), copies=8, edges=FixedInDegree(2), seed=0)
    assert lift.n_edges == 8 + 16 + 8 + 8 + 8 + 1
    assert lift.n_parameters == 24 + 16 + 8 + 8 + 8 + 1


def test_wrong_inputs_are_refused():
    lift = multigraph_lift()
    with pytest.raises(ValueError, match="one array per input vertex"):
        lift.batch({"x": np.zeros((2, 3))})
    with pytest.raises(ValueError, match=r"samples of shape \(4,\) for vertex 'u'"):
        lift.batch({"x": np.zeros((2, 3)), "u": np.zeros((2, 5))})
