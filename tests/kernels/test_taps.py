"""Edges that carry matrices, inner products and kernels: against the edge map, edge by edge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import BernoulliInDegree, FixedInDegree, modules, sample
from flowlift.kernels import Fibre, applies
from flowlift.lift.fibre_sums import edge_sum
from flowlift.modules import At, Convolution, Identity, InnerProduct, Matrix

N_U, N_V, K, B = 6, 5, 2, 2
MAPS = {
    "matrix of tokens": (Matrix(2), (2, 3)),
    "inner product": (InnerProduct(2), (2, 3)),
    "identity": (Identity(), (2,)),
    "one token": (At(1, Matrix(2)), (2, 3)),
    "same": (Convolution((3, 3)), (3, 4)),
    "valid": (Convolution((2,), 1, "valid"), (4,)),
    "strides": (Convolution((3, 2), (2, 1), 1), (4, 3)),
    "wide zeros": (Convolution((2,), 1, 3), (3,)),
    "long strides": (Convolution((1,), 2, 0), (5,)),
    "patches": (Convolution((2, 2), 2, "valid"), (4, 5)),
    "uneven phases": (Convolution((5, 3), (3, 2), 1), (7, 4)),
}
QUICK = [("matrix of tokens", "regular"), ("same", "ragged"), ("wide zeros", "regular")]
# Products of a strided kernel: one for all phases with equally many taps.
PRODUCTS = {"same": 1, "strides": 2, "long strides": 1, "patches": 1, "uneven phases": 4}
CASES = [(m, kind) for m in MAPS for kind in ("regular", "ragged")]
CASES = [c if c in QUICK else pytest.param(*c, marks=pytest.mark.slow) for c in CASES]


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def make(name, kind, dtype="float64"):
    rng = np.random.default_rng(0)
    if kind == "regular":
        s = np.concatenate([rng.choice(N_U, K, replace=False) for _ in range(N_V)])
        t = np.repeat(np.arange(N_V), K)
        fibre, _ = Fibre.build(s, t, N_U, N_V, regular=K, compressed=False)
    else:
        t, s = np.nonzero(rng.random((N_V, N_U)) < 0.4)
        fibre, _ = Fibre.build(s[t != 2], t[t != 2], N_U, N_V, capacity=20, compressed=False)
    edge_map, shape = MAPS[name]
    w = rng.normal(size=(fibre.capacity, *edge_map.weight_shape(shape)))
    y = rng.normal(size=(N_U, B, *shape))
    return edge_map, fibre, jnp.asarray(w, dtype), jnp.asarray(y, dtype)


def loop(edge_map, fibre, w, y):
    """The definition, edge by edge and sample by sample, differentiated by JAX alone."""
    s, t = fibre.edges()
    terms = jax.vmap(jax.vmap(edge_map, (None, 0)))(w[: s.size], y[s])
    return jnp.zeros((fibre.n_targets, *terms.shape[1:]), terms.dtype).at[t].add(terms)


def everything(sum_, w, y):
    f = lambda w, y: jnp.sum(jnp.sin(sum_(w, y)))
    g = jax.grad(f, argnums=(0, 1))
    return sum_(w, y), g(w, y), jax.jvp(g, (w, y), (jnp.cos(w), jnp.cos(y)))[1]


@functools.cache
def defined(name, kind):
    """What the definition gives, for all methods: compiled once."""
    edge_map, fibre, w, y = make(name, kind)
    slow = lambda w, y: loop(edge_map, fibre, w, y)
    return jax.jit(lambda w, y: everything(slow, w, y))(w, y)


@pytest.mark.parametrize("method", ["padded", "dense"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_value_and_derivatives_of_both_orders_equal_the_definition(name, kind, method):
    edge_map, fibre, w, y = make(name, kind)
    assert applies(fibre)
    fast = lambda w, y: edge_sum(edge_map, fibre, w, y, method)
    got = jax.jit(lambda w, y: everything(fast, w, y))(w, y)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(defined(name, kind)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert not np.any(got[1][0][int(fibre.count) :])


@pytest.mark.parametrize("method", ["padded", "dense"])
@pytest.mark.parametrize("name", ["matrix of tokens", pytest.param("same", marks=pytest.mark.slow)])
def test_vmap_over_activations_and_over_weights(name, method):
    edge_map, fibre, w, y = make(name, "regular")
    fast = lambda w, y: edge_sum(edge_map, fibre, w, y, method)
    slow = lambda w, y: loop(edge_map, fibre, w, y)
    ws, ys = jnp.stack([w, jnp.sin(w)]), jnp.stack([y, jnp.cos(y)], 1)
    for axes, args in (((None, 1), (w, ys)), ((0, None), (ws, y)), ((0, 1), (ws, ys))):
        got, want = (jax.jit(jax.vmap(f, axes))(*args) for f in (fast, slow))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["matrix of tokens", "same"])
@pytest.mark.parametrize("method", ["padded", "dense"])
def test_single_precision_stays(name, method):
    edge_map, fibre, w, y = make(name, "regular", "float32")
    fast = lambda w, y: edge_sum(edge_map, fibre, w, y, method)
    slow = lambda w, y: loop(edge_map, fibre, w, y)
    got, want = (jax.jit(f)(w, y) for f in (fast, slow))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", PRODUCTS)
def test_phases_of_a_stride_share_a_product(name):
    edge_map, fibre, w, y = make(name, "ragged")
    f = lambda w, y: edge_sum(edge_map, fibre, w, y, "padded")
    assert str(jax.make_jaxpr(f)(w, y)).count("fibre_push[") == PRODUCTS[name]


def value_and_pulled_back(f, w, y):
    z, back = jax.vjp(f, w, y)
    return z, back(jnp.ones_like(z))


@pytest.mark.parametrize(("kind", "method"), [("ragged", "dense"), ("ragged", "padded")])
def test_padding_is_ignored_whatever_it_holds_in_arrays(kind, method):
    for name in ("matrix of tokens", "same"):
        edge_map, fibre, w, y = make(name, kind)
        dirty = w.at[int(fibre.count) :].set(jnp.nan)
        f = lambda w, y, m=edge_map, fibre=fibre: edge_sum(m, fibre, w, y, method)
        slow = lambda w, y, m=edge_map, fibre=fibre: loop(m, fibre, w, y)
        z, gradients = jax.jit(lambda w, y, f=f: value_and_pulled_back(f, w, y))(dirty, y)
        np.testing.assert_allclose(z, jax.jit(slow)(w, y), rtol=1e-12, atol=1e-12)
        assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("name", ["same", "strides", "matrix of tokens"])
def test_complete_fibres_are_dense_products(name):
    edge_map, shape = MAPS[name]
    rng, fibre = np.random.default_rng(0), Fibre.complete(N_U, N_V)
    w = jnp.asarray(rng.normal(size=(fibre.capacity, *edge_map.weight_shape(shape))))
    y = jnp.asarray(rng.normal(size=(N_U, B, *shape)))
    fast = lambda w, y: edge_sum(edge_map, fibre, w, y, "auto")
    slow = lambda w, y: loop(edge_map, fibre, w, y)
    f = lambda sum_: jax.jit(jax.value_and_grad(lambda w, y: jnp.sum(jnp.sin(sum_(w, y))), (0, 1)))
    for a, b in zip(*(jax.tree.leaves(f(g)(w, y)) for g in (fast, slow)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_an_identity_to_the_namesake_is_no_product():
    lift = sample(modules.resnet((4, 4), blocks=1), copies=5, edges=BernoulliInDegree(2), seed=0)
    fibre = lift.fibres["r0->r1"]
    assert fibre.aligned
    y = jnp.asarray(np.random.default_rng(0).normal(size=(5, B, 4, 4)))
    w = lift.weights["r0->r1"]
    assert edge_sum(Identity(), fibre, w, y, "auto") is y
    np.testing.assert_array_equal(loop(Identity(), fibre, w, y), y)


@pytest.mark.parametrize(
    ("sources", "regular"), [([1, 0, 2], 1), ([0, 1, 2], None)], ids=["permuted", "not said"]
)
def test_edges_that_are_not_aligned_are_refused(sources, regular):
    with pytest.raises(ValueError, match="`aligned` may be True only where"):
        Fibre.build(sources, np.arange(3), 3, 3, regular=regular, aligned=True)


def test_a_hub_goes_through_blocks_of_edges():
    fibre, _ = Fibre.build(np.arange(400), np.zeros(400, int), 400, 40, compressed=False)
    assert not applies(fibre)
    y = jnp.asarray(np.random.default_rng(0).normal(size=(400, B, 1, 2)))
    z = edge_sum(Matrix(1), fibre, jnp.ones((400, 1, 2)), y, "padded")
    np.testing.assert_allclose(z[0, :, 0, 0], y.sum((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("law", [BernoulliInDegree(4), FixedInDegree(4)])
def test_lifts_of_one_size_have_equal_shapes_whatever_the_seed(law):
    module = modules.cnn2d(4, 4, depth=2)
    shapes = [
        jax.tree.map(lambda x: (x.shape, x.dtype), sample(module, copies=64, edges=law, seed=seed))
        for seed in range(4)
    ]
    assert all(applies(sample(module, copies=64, edges=law, seed=0).fibres[e]) for e in ["h1->h2"])
    assert all(jax.tree.structure(other) == jax.tree.structure(shapes[0]) for other in shapes)
    assert all(jax.tree.leaves(other) == jax.tree.leaves(shapes[0]) for other in shapes)
