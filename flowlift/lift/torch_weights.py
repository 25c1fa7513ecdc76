"""Weights of a PyTorch network in an equinox one of the same layers, without importing torch."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

# What a layer of equinox calls as a layer of torch.nn does, with the same meaning.
_NAMES = ("weight", "bias")
_ENTRY = re.compile(r"(\d+)\.(weight|bias)")


def read_torch(network: eqx.nn.Sequential, state: Mapping[str, Any]) -> eqx.nn.Sequential:
    """The network with the weights of a `torch.nn.Sequential` of the same layers, by their places.

    Linear and convolutional layers, embeddings and normalisations without running statistics mean
    the same in both libraries: y = W x + b with W of shape (outputs, inputs), kernels of shape
    (outputs, inputs / groups, sides). Activations have no entries and must be there, so that
    places agree; a `torch.nn.Flatten` is an `eqx.nn.Lambda(jax.numpy.ravel)`.

    Args:
        network: layers as in PyTorch, whose own weights are replaced.
        state: `model.state_dict()`, of tensors on the CPU (`model.cpu()`), or any mapping of the
            same names to arrays.

    Returns:
        The network with the weights as they are, in their own precision (`flowlift.solve` takes
        them to that of the flow).

    Raises:
        ValueError: for names of which the network has no weights, weights of which the state has
            no entry, and shapes that differ.
    """
    if not isinstance(network, eqx.nn.Sequential):
        raise ValueError(
            "Argument `network` must be an equinox.nn.Sequential, but is "
            f"{type(network).__name__}; write the layers of the torch.nn.Sequential in their order."
        )
    places = _places(network)
    _check_names(places, state)
    found = [_in_shape(name, state[name], *places[name]) for name in places]
    return eqx.tree_at(lambda tree: [_leaf(tree, name) for name in places], network, found)


def _places(network: eqx.nn.Sequential) -> dict[str, tuple[tuple[int, ...], bool]]:
    """The shape of each weight by torch's name, and whether it is the bias of a convolution."""
    found = {}
    for place, layer in enumerate(network.layers):
        if not dataclasses.is_dataclass(layer):
            continue
        for name in _NAMES:
            leaf = getattr(layer, name, None)
            if isinstance(leaf, jax.Array | np.ndarray):
                convolution = isinstance(layer, eqx.nn.Conv) and name == "bias"
                found[f"{place}.{name}"] = (leaf.shape, convolution)
    return found


def _check_names(places: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    extra, missing = sorted(set(state) - set(places)), sorted(set(places) - set(state))
    if extra or missing:
        raise ValueError(
            "Argument `state` must have an entry for each weight of `network` and no other, but "
            f"lacks {', '.join(missing) or 'none'} and has besides {', '.join(extra) or 'none'}; "
            "see that the same layers stand at the same places, activations included."
        )


def _in_shape(name: str, value: Any, shape: tuple[int, ...], convolution: bool) -> Any:
    array = np.asarray(value)
    # Biases of equinox's convolutions have axes of length 1 for the sides of a map.
    wanted = shape[:1] if convolution else shape
    if array.shape != wanted:
        raise ValueError(
            f"Argument `state` must hold {name!r} of shape {wanted}, but its shape is "
            f"{array.shape}; see that layer {name.partition('.')[0]} is the same in both."
        )
    return jnp.asarray(array.reshape(shape))


def _leaf(network: eqx.nn.Sequential, name: str) -> Any:
    match = _ENTRY.fullmatch(name)
    assert match is not None
    return getattr(network.layers[int(match[1])], match[2])
