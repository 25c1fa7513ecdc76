"""Equinox networks read as dense lifts: the same function, gradient and base module."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import modules
from flowlift.lift import Complete, FixedInDegree, read_equinox, sample
from flowlift.modules import Identity, Pointwise, Pool

KEYS = jax.random.split(jax.random.key(0), 20)


def elu(z):
    return jax.nn.elu(z)


def conv(n_in, n_out, dimension, kernel=3, key=0, **options):
    return eqx.nn.Conv(dimension, n_in, n_out, kernel, key=KEYS[key], **options)


def linear(n_in, n_out, key=5, **options):
    return eqx.nn.Linear(n_in, n_out, key=KEYS[key], **options)


def sequential(*layers):
    return eqx.nn.Sequential(
        [eqx.nn.Lambda(f) if callable(f) and not isinstance(f, eqx.Module) else f for f in layers]
    )


# Name: the network, made when it is asked for; its `shape`; the shape of a sample.
NETWORKS = {
    "mlp": (lambda: eqx.nn.MLP(4, 3, 5, 2, key=KEYS[0]), None, (4,)),
    "mlp of scalars": (
        lambda: eqx.nn.MLP(
            "scalar", "scalar", 5, 1, jnp.sin, jnp.tanh, use_bias=False, key=KEYS[1]
        ),
        None,
        (),
    ),
    "an activation without a name": (
        lambda: sequential(linear(4, 3), elu, linear(3, 1, use_bias=False)),
        None,
        (4,),
    ),
    "cnn of images, flattened": (
        lambda: sequential(
            conv(2, 3, 2, padding="SAME", stride=2),
            jax.nn.relu,
            eqx.nn.MaxPool2d(2, 2),
            jnp.tanh,
            conv(3, 4, 2, (1, 2), padding=((0, 0), (1, 0)), use_bias=False),
            jnp.ravel,
            linear(16, 6),
            jax.nn.softplus,
            linear(6, 2),
        ),
        (7, 8),
        (2, 7, 8),
    ),
    "cnn of signals, averaged": (
        lambda: sequential(
            conv(1, 4, 1, padding=1),
            jnp.tanh,
            eqx.nn.AvgPool1d(2, 2),
            conv(4, 4, 1, padding=1),
            lambda y: jnp.tanh(y),
            lambda y: y.mean(axis=1),
            linear(4, 3),
        ),
        (12,),
        (1, 12),
    ),
}


DEAR = {"cnn of signals, averaged", "cnn of images, flattened"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in DEAR else ()) for n in NETWORKS]
)
def test_lift_is_the_network_in_value_and_gradient(name):
    make, shape, sample_shape = NETWORKS[name]
    network = make()
    lift = read_equinox(network, shape=shape)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, *sample_shape)))

    def loss(model, predict):
        y = predict(model)
        return jnp.sum(jnp.sin(y)), y

    @eqx.filter_jit
    def both(lift, network):
        gradient = eqx.filter_value_and_grad(loss, has_aux=True)
        return gradient(lift, lambda m: m.batch(x)), gradient(network, lambda m: jax.vmap(m)(x))

    ((_, ours), our_gradient), ((_, theirs), their_gradient) = both(lift, network)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    squares = [
        sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(eqx.filter(g, eqx.is_array)))
        for g in (our_gradient.weights, their_gradient)
    ]
    np.testing.assert_allclose(*squares, rtol=1e-11)
    assert lift.n_parameters == sum(
        leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
    )


def test_base_modules_are_those_of_the_zoo():
    mlp = read_equinox(eqx.nn.MLP(4, 3, 5, 2, jax.nn.softplus, key=KEYS[0])).module
    assert mlp == modules.mlp(4, 3, activation="softplus")
    cnn = read_equinox(NETWORKS["cnn of signals, averaged"][0](), shape=(12,)).module
    assert cnn == modules.cnn1d(12, 1, 3, pool=2)
    assert sample(cnn, copies=6, edges={"*": FixedInDegree(2), "x->h1": Complete()}, seed=0)


def test_what_one_vertex_cannot_do_becomes_another_vertex():
    make, shape, _ = NETWORKS["cnn of images, flattened"]
    module = read_equinox(make(), shape=shape).module
    assert [v.map for v in module.hidden] == [
        Pool(2, "relu", "max"),
        Pointwise("tanh"),
        Pointwise("identity"),
        Pointwise("softplus"),
    ]
    assert module.edge_by_name["h1->h2"].map == Identity()


def test_functions_are_named_by_what_they_do():
    names = {
        lambda z: jnp.maximum(z, 0): "relu",
        lambda z: jax.nn.gelu(z, approximate=False): "gelu",
        jax.nn.relu6: None,
        elu: None,
    }
    for function, name in names.items():
        module = read_equinox(sequential(linear(4, 3), function, linear(3, 1))).module
        assert module.hidden[0].map.function == (name or function)
    kinked = sequential(linear(4, 3), jax.nn.relu6, linear(3, 1))
    assert not read_equinox(kinked, kinked=True).smooth


def test_precision_is_the_networks():
    network = eqx.nn.MLP(4, 3, 5, 1, key=KEYS[0], dtype=jnp.float32)
    lift = read_equinox(network)
    assert {w.dtype for w in lift.weights.values()} == {np.dtype("float32")}
    assert int(lift.seed) == -1


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: linear(3, 2), None, "must be an equinox MLP .* or Sequential, but is Linear"),
        (lambda: eqx.nn.MLP(3, 2, 4, 3, scan=True, key=KEYS[0]), None, "without scan"),
        (
            lambda: sequential(jnp.tanh, linear(3, 2)),
            None,
            "must begin with a Linear or a convolution",
        ),
        (lambda: sequential(), None, "begins with nothing"),
        (lambda: sequential(conv(1, 2, 1)), None, "`shape` must be given when"),
        (lambda: sequential(linear(3, 2)), (3,), "`shape` must be given when, and only when"),
        (
            lambda: sequential(linear(3, 2), eqx.nn.LayerNorm(2)),
            None,
            "layer 1, LayerNorm, cannot: only",
        ),
        (
            lambda: sequential(linear(3, 2), jax.nn.softmax),
            None,
            "layer 1, Lambda, .* no elementwise",
        ),
        (
            lambda: sequential(linear(3, 2), lambda y: y - y.mean()),
            None,
            "its function is not elementwise",
        ),
        (lambda: sequential(linear(3, 2), lambda y: y[:1]), None, "no elementwise map, flattening"),
        (lambda: sequential(linear(3, 2), eqx.nn.PReLU()), None, "layer 1, PReLU"),
        (
            lambda: sequential(conv(1, 2, 1, 9)),
            (5,),
            r"layer 0, Conv, .* larger than the padded map \(5,\)",
        ),
        (lambda: sequential(conv(2, 2, 1, groups=2)), (5,), "has groups"),
        (lambda: sequential(conv(1, 2, 1), eqx.nn.AvgPool1d(2, 1)), (8,), "windows overlap"),
        (lambda: sequential(conv(1, 2, 1), eqx.nn.AvgPool1d(4, 4)), (8,), r"do not tile .* \(6,\)"),
        (
            lambda: sequential(conv(1, 2, 1), jnp.ravel, linear(3, 1)),
            (8,),
            "takes 3 numbers, but 12 come",
        ),
        (lambda: sequential(linear(3, 2), conv(2, 2, 1)), None, "there is no map to convolve"),
    ],
)
def test_networks_that_cannot_be_read_are_refused_by_layer(make, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        read_equinox(make(), shape=shape)
    assert "\n" not in str(error.value)
