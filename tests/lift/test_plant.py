"""Witnesses planted in larger sparse lifts: present exactly, and read off again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from flowlift import modules
from flowlift.lift import BernoulliInDegree, FixedInDegree, Gaussian, plant, read_equinox, sample
from flowlift.modules import (
    Edge,
    Hidden,
    Identity,
    Input,
    Output,
    PerceptronModule,
    Residual,
    Scalar,
)

# Compiled whole: one by one, operations take several times as long to compile.
batch = eqx.filter_jit(lambda lift, x: lift.batch(x))
activations = eqx.filter_jit(lambda lift, x: lift.activations(x))
X = np.random.default_rng(0).standard_normal((5, 3))
PLACES = {"h1": [7, 0, 3, 9], "h2": [5, 2, 1, 8]}


def host(module, seed=0, copies=12, **options):
    return sample(module, copies=copies, edges=BernoulliInDegree(3), seed=seed, **options)


def random_readout(module):
    return dict.fromkeys(module.edge_by_name, Gaussian())


@pytest.fixture(scope="module")
def network():
    return eqx.nn.MLP(3, 2, 4, 2, jnp.tanh, key=jax.random.key(1))


@pytest.fixture(scope="module")
def witness(network):
    return read_equinox(network)


@pytest.mark.parametrize("places", [None, PLACES])
def test_planted_lift_is_the_witness_when_the_other_readout_is_zero(network, witness, places):
    planting = plant(host(witness.module), witness, places=places)
    np.testing.assert_allclose(
        batch(planting.lift, X), eqx.filter_jit(jax.vmap(network))(X), atol=1e-13
    )
    np.testing.assert_allclose(
        batch(planting.lift, X), naive.evaluate(planting.lift, X), atol=1e-13
    )


def test_planted_copies_are_the_witnesss_whatever_the_rest_is(witness):
    lift = host(witness.module, weights=random_readout(witness.module))
    planting = plant(lift, witness, places=PLACES)
    small, large = activations(witness, X), activations(planting.lift, X)
    for vertex, places in PLACES.items():
        np.testing.assert_allclose(large[vertex][np.array(places)], small[vertex], atol=1e-14)
    # The others read planted copies of h1, so that only h1 is as drawn.
    others = np.setdiff1d(np.arange(12), PLACES["h1"])
    np.testing.assert_array_equal(large["h1"][others], activations(lift, X)["h1"][others])
    assert np.abs(batch(planting.lift, X) - batch(witness, X)).max() > 0.1


def test_edges_of_other_copies_stay_as_drawn(witness):
    lift = host(witness.module)
    planting = plant(lift, witness, places=PLACES)
    for name in ("x->h1", "h1->h2"):
        target = name[-2:]
        drawn, now = lift.edges(name), planting.lift.edges(name)
        for a, b in zip(drawn, now, strict=True):
            np.testing.assert_array_equal(
                a[~np.isin(drawn[1], PLACES[target])], b[~np.isin(now[1], PLACES[target])]
            )
    assert planting.lift.graph_hash != lift.graph_hash


@pytest.mark.parametrize("readout", [True, False])
def test_witness_is_read_off_exactly(witness, readout):
    lift = host(witness.module, weights=random_readout(witness.module))
    planting = plant(lift, witness, places=PLACES, readout=readout)
    again = planting.read_off()
    for name in witness.weights:
        for a, b in zip(again.edges(name), witness.edges(name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert again.graph_hash == witness.graph_hash
    if not readout:
        for name in ("h2->y", "1->y"):
            np.testing.assert_array_equal(planting.lift.weights[name], lift.weights[name])


def test_what_has_become_of_the_witness_is_read_off(witness):
    planting = plant(host(witness.module), witness)
    moved = eqx.tree_at(
        lambda m: m.weights, planting.lift, replace_fn=lambda w: {k: v + 0.1 for k, v in w.items()}
    )
    small = planting.read_off(moved)
    at_large, at_small = activations(moved, X), activations(small, X)
    for vertex in ("h1", "h2"):
        planted = at_large[vertex][planting.places[vertex]]
        np.testing.assert_allclose(planted, at_small[vertex], atol=1e-13)
    assert np.abs(batch(small, X) - batch(witness, X)).max() > 1e-3


def test_residual_edges_and_channels_are_planted():
    module = PerceptronModule(
        [Input("x", (2,), 3), Hidden("a"), Hidden("b", Residual("tanh")), Output("y", copies=2)],
        [
            Edge("x", "a", Scalar()),
            Edge("a", "b", Identity()),
            Edge("a", "b", Scalar()),
            Edge("b", "y", Scalar()),
        ],
    )
    weights = random_readout(module)
    small = sample(module, copies=2, edges=FixedInDegree(2), weights=weights, seed=1)
    large = sample(module, copies=5, edges=FixedInDegree(2), seed=2)
    planting = plant(large, small, places={"a": [3, 1], "b": [4, 0]})
    x = np.random.default_rng(1).standard_normal((3, 3, 2))
    np.testing.assert_allclose(batch(planting.lift, x), batch(small, x), atol=1e-13)


def test_bad_plantings_are_refused(witness):
    lift, module = host(witness.module), witness.module
    cases = [
        (lambda: plant(host(modules.mlp(3, 1)), witness), "same base module"),
        (lambda: plant(host(module, copies=3), witness), "at least the witness's 4 copies of 'h1'"),
        (lambda: plant(host(module, precision="float32"), witness), "precision of `lift`, float32"),
        (lambda: plant(lift, witness, places={"x": [0]}), "must name hidden vertices"),
        (lambda: plant(lift, witness, places={"h1": [0, 1, 2]}), "4 distinct copies from 0 to 11"),
        (lambda: plant(lift, witness, places={"h1": [0, 1, 2, 2]}), "4 distinct copies"),
        (lambda: plant(lift, witness, places={"h1": [0, 1, 2, 12]}), "4 distinct copies"),
        (lambda: plant(lift, witness).read_off(lift), "must have the planted graph"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            make()
        assert "\n" not in str(error.value)
