"""Weights under PyTorch's names, against its formulas written in NumPy; no torch is needed."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.lift import read_torch

RNG = np.random.default_rng(0)


class Tensor:
    """What a tensor of torch shows to NumPy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def key():
    return jax.random.key(0)


def linear_state():
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
    return {name: RNG.standard_normal(shape) for name, shape in shapes.items()}


def linear_network():
    layers = [
        eqx.nn.Linear(3, 4, key=key()),
        eqx.nn.Lambda(jnp.tanh),
        eqx.nn.Linear(4, 2, key=key()),
    ]
    return eqx.nn.Sequential(layers)


def test_linear_layers_are_those_of_torch():
    state, x = linear_state(), RNG.standard_normal(3)
    network = read_torch(linear_network(), {k: Tensor(v) for k, v in state.items()})
    # torch.nn.Linear: y = x A^T + b.
    hidden = np.tanh(x @ state["0.weight"].T + state["0.bias"])
    np.testing.assert_allclose(
        network(x), hidden @ state["2.weight"].T + state["2.bias"], rtol=1e-14
    )
    assert "torch" not in sys.modules


def test_a_convolution_is_the_cross_correlation_of_torch():
    state = {"0.weight": RNG.standard_normal((2, 3, 2)), "0.bias": RNG.standard_normal(2)}
    conv = eqx.nn.Conv1d(3, 2, 2, stride=2, padding=1, key=key())
    network = read_torch(eqx.nn.Sequential([conv]), state)
    x = RNG.standard_normal((3, 5))
    padded = np.pad(x, ((0, 0), (1, 1)))
    windows = np.stack([padded[:, i : i + 2] for i in range(0, 6, 2)])
    expected = np.einsum("ock,nck->on", state["0.weight"], windows) + state["0.bias"][:, None]
    np.testing.assert_allclose(network(x), expected, rtol=1e-12)


def test_a_normalisation_keeps_its_scale_and_shift():
    state = {"0.weight": RNG.standard_normal(4), "0.bias": RNG.standard_normal(4)}
    network = read_torch(eqx.nn.Sequential([eqx.nn.LayerNorm(4)]), state)
    x = RNG.standard_normal(4)
    # torch.nn.LayerNorm: the biased variance, eps = 1e-5 inside of the root.
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * state["0.weight"] + state["0.bias"]
    np.testing.assert_allclose(network(x), expected, rtol=1e-12)


def test_precision_is_kept():
    state = {name: array.astype("float32") for name, array in linear_state().items()}
    network = read_torch(linear_network(), state)
    assert network.layers[0].weight.dtype == "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("2.bias"), r"lacks 2\.bias and has besides none"),
        (lambda s: s.update({"1.running_mean": np.zeros(4)}), r"besides 1\.running_mean"),
        (
            lambda s: s.update({"0.weight": np.zeros((3, 4))}),
            r"shape \(4, 3\), but its shape is \(3, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    state = linear_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        read_torch(linear_network(), state)


def test_only_a_sequence_of_layers_is_read():
    with pytest.raises(ValueError, match=r"must be an equinox\.nn\.Sequential, but is Linear"):
        read_torch(eqx.nn.Linear(1, 1, key=key()), {})
