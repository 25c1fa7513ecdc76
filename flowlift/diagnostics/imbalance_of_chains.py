"""The terms of an imbalance for equinox's MLPs and sequences: layers, and what is between them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..tasks import Supervised
from .imbalance_by_leaf import ByLeaf

# Of pooling classes all of whose maps act channel by channel.
_POOLS = (
    *(eqx.nn.AvgPool1d, eqx.nn.AvgPool2d, eqx.nn.AvgPool3d),
    *(eqx.nn.MaxPool1d, eqx.nn.MaxPool2d, eqx.nn.MaxPool3d),
    *(eqx.nn.AdaptiveAvgPool1d, eqx.nn.AdaptiveAvgPool2d, eqx.nn.AdaptiveMaxPool1d),
)
_LAYERS = eqx.nn.Linear | eqx.nn.Conv


class Between(eqx.Module):
    """What is between two layers: T, from the output of one to the input of the next.

    Attributes:
        steps: functions of one sample, applied in turn.
        why: why nothing is known of the units there; empty if T acts on each unit by itself.
        linear: whether T is the identity.
    """

    steps: tuple[Any, ...]
    why: str = eqx.field(static=True)
    linear: bool = eqx.field(static=True)

    def __call__(self, z: Array) -> Array:
        """T(z) of one sample."""
        for step in self.steps:
            z = step(z)
        return z


class Chain(eqx.Module):
    """Layers with weights, and what is between them.

    Attributes:
        layers: Linear and Conv layers by place in the model.
        between: before the first layer, after each one, and so after the last.
    """

    layers: dict[str, Any]
    between: tuple[Between, ...]

    def __call__(self, x: Array, taps: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """The output for one sample with taps added to the inputs of layers after the first.

        Args:
            x: the sample.
            taps: one for each layer but the first.

        Returns:
            The output, and the output z of each layer but the last.
        """
        u, zs = self.between[0](x), []
        for i, layer in enumerate(self.layers.values()):
            z = layer(u if i == 0 else u + taps[i - 1])
            u = self.between[i + 1](z)
            zs.append(z)
        return u, tuple(zs[:-1])


def chain_of(model: PyTree, data: Supervised) -> Chain:
    """A model as layers with what is between them.

    Args:
        model: an `equinox.nn.MLP` or `equinox.nn.Sequential`.
        data: the samples.

    Returns:
        The chain.

    Raises:
        ValueError: for another model, or one without layers.
    """
    layers, gaps, shape = {}, [[]], _shape(data)
    for place, step in _steps(model):
        if isinstance(step, _LAYERS):
            layers[place], gaps = step, [*gaps, []]
        else:
            gaps[-1].append((place, step))
    if not layers:
        raise ValueError(
            "Argument `model` must have Linear or Conv layers, but has none; give an "
            "equinox.nn.MLP or Sequential."
        )
    between = []
    for i, gap in enumerate(gaps):
        found, shape = _between(gap, shape)
        between.append(found)
        if i < len(layers):
            shape = jax.eval_shape(list(layers.values())[i], shape)
    return Chain(layers, tuple(between))


def chain_terms(
    model: PyTree, data: Supervised, leaves: ByLeaf
) -> tuple[dict, dict[str, Array], dict[str, str]]:
    """Squares of weights into and out of each unit, and the rate of their difference.

    Args:
        model: an `equinox.nn.MLP` or `equinox.nn.Sequential`.
        data: the samples.
        leaves: what each weight brings.

    Returns:
        The three by layer, (units,) each; conserved matrices; and what is not covered, and why.
    """
    chain, count = chain_of(model, data), data.targets.shape[0]
    squares, added, flows = map(layers_of, (leaves.squares, leaves.added, leaves.flows))
    rates = layers_of(leaves.rates)
    run = jax.vmap(chain)
    shapes = jax.eval_shape(lambda x: _inputs_of_layers(chain, x), data.inputs[0])
    taps = tuple(jnp.zeros((count, *s.shape), s.dtype) for s in shapes)

    def loss(taps: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        outputs, zs = run(data.inputs, taps)
        return jnp.mean(data.loss.per_sample(outputs, data.targets)), zs

    slopes, zs = jax.grad(loss, has_aux=True)(taps)
    terms, matrices, without = {}, {}, {}
    names, layers = list(chain.layers), list(chain.layers.values())
    for i, (z, slope) in enumerate(zip(zs, slopes, strict=True)):
        through, units = chain.between[i + 1], z.shape[1]
        why = through.why or _why_not(layers[i], layers[i + 1])
        if why:
            without[names[i]] = why
            continue
        place, after = names[i], names[i + 1]
        h, along = jax.jvp(jax.vmap(through), (z,), (_flowing(layers[i], flows[place], z),))
        each = ((along - flows[after].weight * h) * slope).reshape(count, units, -1)
        into, pulled = _into(squares[place]), _into(added[place])
        out, pushed = _out(squares[after], units), _out(added[after], units)
        terms[place] = (into, out, 2 * (each.sum(axis=(0, 2)) + pulled - pushed))
        if through.linear and all(isinstance(one, eqx.nn.Linear) for one in layers[i : i + 2]):
            both = rates[place], rates[after]
            matrices[place] = _matrix(layers[i], layers[i + 1], *both)
    return terms, matrices, without


def layers_of(model: PyTree) -> dict[str, Any]:
    """Linear and Conv layers by place, of a model or a tree of its structure.

    Args:
        model: as for `chain_of`.

    Returns:
        The layers.
    """
    return {place: step for place, step in _steps(model) if isinstance(step, _LAYERS)}


def _inputs_of_layers(chain: Chain, x: Array) -> tuple[Array, ...]:
    u, found = chain.between[0](x), []
    for i, layer in enumerate(chain.layers.values()):
        found.append(u)
        u = chain.between[i + 1](layer(u))
    return tuple(found[1:])


def _steps(model: PyTree) -> list[tuple[str, Any]]:
    """Layers and functions in turn, by place."""
    if isinstance(model, eqx.nn.MLP):
        steps: list[tuple[str, Any]] = []
        for i, layer in enumerate(model.layers):
            last = i == len(model.layers) - 1
            act = model.final_activation if last else model.activation
            steps += [(f"layers[{i}]", layer), (f"activation after layers[{i}]", act)]
        return steps
    if isinstance(model, eqx.nn.Sequential):
        return [
            step for i, layer in enumerate(model.layers) for step in _inner(f"layers[{i}]", layer)
        ]
    raise ValueError(
        "Argument `model` must be a Lift, an equinox.nn.MLP or an equinox.nn.Sequential, but is "
        f"{type(model).__name__}; nothing is known of units of others."
    )


def _inner(place: str, layer: Any) -> list[tuple[str, Any]]:
    if isinstance(layer, eqx.nn.MLP | eqx.nn.Sequential):
        return [(f"{place}.{inner}", step) for inner, step in _steps(layer)]
    return [(place, layer)]


def _between(gap: list[tuple[str, Any]], shape: Any) -> tuple[Between, Any]:
    """T of some steps for inputs of a shape, and the shape of its values."""
    why, linear, steps = "", True, []
    for place, step in gap:
        function = step.fn if isinstance(step, eqx.nn.Lambda) else step
        call: Any = step if isinstance(step, eqx.Module) else function
        after = jax.eval_shape(call, shape)
        kind = _kind(function, shape, after)
        if kind is None and not why:
            why = f"since {_name(function)} at {place} does not act on each unit by itself"
        linear = linear and kind in ("identity", "ravel")
        steps.append(call)
        shape = after
    return Between(tuple(steps), why, linear), shape


def _kind(function: Any, before: Any, after: Any) -> str | None:
    """How a step acts on each unit by itself; None if it does not, or it is not known to."""
    if isinstance(function, eqx.nn.Identity):
        return "identity"
    if isinstance(function, _POOLS):
        return "pool"
    if jax.tree.leaves(eqx.filter(function, eqx.is_inexact_array)):
        # It holds trainable numbers of its own, whose squares are in no law.
        return None
    with jax.ensure_compile_time_eval():
        # At numbers that no symmetry relates; one entry is changed at a time.
        x = np.asarray(0.3 * np.cos(1.0 + np.arange(np.prod(before.shape))), before.dtype)
        y = np.asarray(function(jnp.asarray(x.reshape(before.shape))))
        flat = y.ravel()
        if after.shape != before.shape:
            kept = y.size == x.size and y.ndim == 1 and np.array_equal(flat, x)
            return "ravel" if kept else None
        for k in range(0, x.size, max(1, x.size // 7)):
            moved = np.where(np.arange(x.size) == k, x + 0.1, x).astype(x.dtype)
            changed = np.asarray(function(jnp.asarray(moved.reshape(before.shape)))).ravel() != flat
            if changed[np.arange(x.size) != k].any():
                return None
    return "identity" if np.array_equal(flat, x) else "pointwise"


def _shape(data: Supervised) -> Any:
    if not isinstance(data.inputs, jax.Array | np.ndarray):
        raise ValueError(
            "Argument `task` must have one array of inputs for this model, but has several; "
            "nothing is known of its units."
        )
    return jax.ShapeDtypeStruct(data.inputs.shape[1:], data.inputs.dtype)


def _why_not(layer: Any, after: Any) -> str:
    """Why the units between two layers are not covered though T acts on each; empty if they are."""
    if isinstance(layer, eqx.nn.Linear) and isinstance(after, eqx.nn.Conv):
        return "since its units are no channels of the convolution after it"
    return ""


def _into(numbers: Any) -> Array:
    """Sums over the weights into each unit, of a number for each in the form of a layer."""
    summed = jnp.sum(numbers.weight, axis=tuple(range(1, numbers.weight.ndim)))
    return summed if numbers.bias is None else summed + jnp.ravel(numbers.bias)


def _out(numbers: Any, units: int) -> Array:
    """Sums over the weights by which each unit of the layer before goes out, likewise."""
    w = numbers.weight
    if isinstance(numbers, eqx.nn.Linear):
        # A unit of several numbers stands in as many columns, one after the other.
        return jnp.sum(w.reshape(w.shape[0], units, -1), axis=(0, 2))
    grouped = w.reshape(numbers.groups, w.shape[0] // numbers.groups, w.shape[1], -1)
    return jnp.sum(grouped, axis=(1, 3)).reshape(units)


def _flowing(layer: Any, flows: Any, z: Array) -> Array:
    """<w, dz/dw> over a layer's weights that flow, of its outputs (samples, units, ...)."""
    if layer.bias is None:
        return flows.weight * z
    return flows.weight * z + (flows.bias - flows.weight) * layer.bias


def _matrix(layer: Any, after: Any, rates: Any, after_rates: Any) -> Array:
    into = layer.weight @ layer.weight.T / rates.weight
    if layer.bias is not None:
        into = into + jnp.outer(layer.bias, layer.bias) / rates.bias
    return after.weight.T @ after.weight / after_rates.weight - into


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)
