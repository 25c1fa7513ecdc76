"""From an equinox network to a lift: its layers become vertices, its units copies."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..modules import (
    POINTWISE,
    AbstractEdgeMap,
    AbstractVertexMap,
    Bias,
    Constant,
    Convolution,
    Edge,
    Hidden,
    Identity,
    InnerProduct,
    Input,
    Output,
    PerceptronModule,
    Pointwise,
    Pool,
    Scalar,
    Shape,
)
from .edge_laws import Complete
from .lift import Lift
from .sampling import sample
from .weight_laws import Zero

_POOLS = {"mean": (eqx.nn.AvgPool1d, eqx.nn.AvgPool2d, eqx.nn.AvgPool3d)}
_POOLS |= {"max": (eqx.nn.MaxPool1d, eqx.nn.MaxPool2d, eqx.nn.MaxPool3d)}


@dataclasses.dataclass
class _Stage:
    """One vertex to be: the edge that enters it, its weights and bias, its map so far."""

    edge: AbstractEdgeMap
    copies: int | None
    space: Shape
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None
    function: str | Callable = "identity"
    pool: tuple | None = None


def read_equinox(
    network: eqx.Module,
    *,
    shape: Sequence[int] | None = None,
    kinked: bool = False,
    method: str = "auto",
    parametrisation: str | None = None,
    seed: int = 0,
) -> Lift:
    """The dense lift that is an equinox network, weight for weight.

    Each layer with weights becomes a vertex, its units or channels become copies, and the base
    edge between two layers is `Complete` (theory, section 2 [proved]: the complete bipartite lift
    of a path is the ordinary network). The base module, `read_equinox(network).module`, is equal
    to `flowlift.modules.mlp(...)` or `cnn2d(...)` of the same layers, so that sparse lifts of it
    can be drawn, and the network planted in them with `flowlift.lift.plant`.

    Layers that are read: `MLP`, and `Sequential` of `Linear`, `Conv1d`, `Conv2d`, `Conv3d`,
    average and maximum pooling with windows that tile the map, and `Lambda` of an elementwise
    function, of a flattening, or of the mean or maximum over each map. What a `Lambda` does is
    found by trying it on numbers.

    Args:
        network: the network, trained or not.
        shape: of one input map, without channels; for a network whose first layer is a
            convolution.
        kinked: whether functions that have no name in `POINTWISE` are not twice differentiable.
        method: as for `flowlift.sample`.
        parametrisation: as for `flowlift.sample`: the network's shape with weights drawn anew by
            the laws of a table, instead of its own.
        seed: of these weights.

    Returns:
        The lift, in the precision of the network's weights, its seed -1 if they are its own. Its
        inputs and outputs have the shapes that the network's have.

    Raises:
        ValueError: for a layer that cannot be read, named by its place; if `shape` is missing; or
            for what is no parametrisation of the network.
    """
    layers = _layers(network)
    stages = _stages(layers, shape, kinked)
    module = _module(stages, layers[0], shape, kinked)
    names = [*(v.name for v in module.hidden), "y"]
    copies = {name: s.copies or 1 for name, s in zip(names[:-1], stages, strict=False)}
    values, before = {}, "x"
    for name, stage in zip(names, stages, strict=True):
        if stage.weights is not None:
            values[f"{before}->{name}"] = stage.weights
        if stage.bias is not None:
            values[f"1->{name}"] = stage.bias
        before = name
    precision = str(np.result_type(*values.values()))
    laws = None if parametrisation else dict.fromkeys(module.edge_by_name, Zero())
    lift = sample(
        module,
        copies=copies,
        edges={"*": Complete()},
        weights=laws,
        parametrisation=parametrisation,
        seed=seed,
        precision=precision,
        method=method,
    )
    if parametrisation:
        return lift
    weights = {
        name: jnp.asarray(values[name], precision).reshape(w.shape) if name in values else w
        for name, w in lift.weights.items()
    }
    return eqx.tree_at(lambda m: (m.weights, m.seed), lift, (weights, np.asarray(-1, np.int64)))


def _layers(network: eqx.Module) -> list:
    if isinstance(network, eqx.nn.Sequential):
        layers = list(network.layers)
    elif isinstance(network, eqx.nn.MLP) and not network.scan:
        activation = eqx.nn.Lambda(network.activation)
        layers = [layer for linear in network.layers for layer in (linear, activation)][:-1]
        layers += [eqx.nn.Lambda(network.final_activation)]
    else:
        raise ValueError(
            "Argument `network` must be an equinox MLP (without scan) or Sequential, but is "
            f"{type(network).__name__}; put its layers into a Sequential."
        )
    if not layers or not isinstance(layers[0], eqx.nn.Linear | eqx.nn.Conv):
        raise ValueError(
            "Argument `network` must begin with a Linear or a convolution, but begins with "
            f"{type(layers[0]).__name__ if layers else 'nothing'}; apply what stands before it to "
            "the data."
        )
    return layers


def _stages(layers: list, shape: Sequence[int] | None, kinked: bool) -> list[_Stage]:
    stages: list[_Stage] = []
    space = () if shape is None else tuple(shape)
    first = layers[0]
    if isinstance(first, eqx.nn.Conv) != (shape is not None):
        raise ValueError(
            "Argument `shape` must be given when, and only when, the first layer is a "
            f"convolution, but is {shape} for {type(first).__name__}; give the shape of one map, "
            "without channels."
        )
    for place, layer in enumerate(layers):
        try:
            if isinstance(layer, eqx.nn.Conv):
                stages.append(_convolution(layer, space))
            elif isinstance(layer, eqx.nn.Linear):
                stages.append(_linear(layer, stages[-1] if stages else None))
            else:
                _absorb(stages, layer)
        except ValueError as error:
            raise ValueError(
                f"Argument `network` must have layers that can be read, but layer {place}, "
                f"{type(layer).__name__}, cannot: {error}; replace it."
            ) from error
        space = _after(stages[-1])
    return stages


def _convolution(layer: eqx.nn.Conv, space: Shape) -> _Stage:
    if layer.groups != 1 or set(layer.dilation) != {1} or layer.padding_mode != "ZEROS":
        raise ValueError("it has groups, a dilation, or a padding other than zeros")
    if not space:
        raise ValueError("there is no map to convolve")
    padding = layer.padding.lower() if isinstance(layer.padding, str) else layer.padding
    edge = Convolution(layer.kernel_size, layer.stride, padding)
    weights = np.asarray(layer.weight).reshape(-1, *layer.kernel_size)
    bias = None if layer.bias is None else np.asarray(layer.bias).reshape(-1)
    return _Stage(edge, layer.out_channels, edge.output_shape(space), weights, bias)


def _linear(layer: eqx.nn.Linear, before: _Stage | None) -> _Stage:
    weights = np.asarray(layer.weight)
    copies = None if layer.out_features == "scalar" else layer.out_features
    space = _after(before) if before else ()
    if before is None:
        edge = Scalar() if layer.in_features == "scalar" else InnerProduct()
    else:
        edge = InnerProduct(len(space)) if space else Scalar()
        wide = (before.copies or 1) * int(np.prod(space, dtype=int))
        if weights.shape[1] != wide:
            raise ValueError(f"it takes {weights.shape[1]} numbers, but {wide} come")
    bias = None if layer.bias is None else np.asarray(layer.bias)
    return _Stage(edge, copies, (), weights, bias)


def _after(stage: _Stage) -> Shape:
    return _vertex_map(stage, False).output_shape((stage.space,))


def _vertex_map(stage: _Stage, kinked: bool) -> AbstractVertexMap:
    kinked = kinked and callable(stage.function)
    if stage.pool is None:
        return Pointwise(stage.function, kinked)
    window, reduce = stage.pool
    return Pool(window, stage.function, reduce, kinked)


def _absorb(stages: list[_Stage], layer) -> None:
    """Let the last vertex do what a layer without weights does, or add one that does."""
    space, copies = _after(stages[-1]), stages[-1].copies
    kind, value = _operation(layer, space, copies)
    if kind == "nothing":
        return
    stage = stages[-1]
    if stage.pool is not None or (kind == "function" and stage.function != "identity"):
        stage = _Stage(Identity(), copies, space)
        stages.append(stage)
    setattr(stage, kind, value)
    _after(stage)


def _operation(layer, space: Shape, copies: int | None) -> tuple:
    for reduce, kinds in _POOLS.items():
        if isinstance(layer, kinds):
            if layer.kernel_size != layer.stride or np.any(layer.padding):
                raise ValueError("its windows overlap or are padded")
            sides = tuple(layer.kernel_size)
            return "pool", (sides[0] if len(set(sides)) == 1 else sides, reduce)
    if isinstance(layer, eqx.nn.Identity):
        return "nothing", None
    if isinstance(layer, eqx.nn.Lambda):
        return _probe(layer.fn, space, copies)
    raise ValueError("only Linear, Conv, pooling and Lambda can")


def _probe(fn: Callable, space: Shape, copies: int | None) -> tuple:
    """What a function does, by trying it on one activation and on a grid of numbers."""
    if jax.tree.leaves(eqx.filter(fn, eqx.is_inexact_array)):
        raise ValueError("its function has weights of its own")
    shape = (() if copies is None else (copies,)) + space
    y = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
    result = _try(fn, y)
    if result.shape == shape:
        alone = _try(jax.vmap(fn), y.ravel())
        if not np.allclose(result.ravel(), alone, equal_nan=True):
            raise ValueError("its function is not elementwise")
        name = _named(fn)
        return ("nothing", None) if name == "identity" else ("function", name)
    axes = tuple(range(1, len(shape)))
    if space and result.shape == shape[:1]:
        for reduce, reducer in (("mean", jnp.mean), ("max", jnp.max)):
            if np.allclose(result, reducer(y, axis=axes)):
                return "pool", (None, reduce)
    if np.array_equal(result, y.ravel()):
        return "nothing", None
    raise ValueError("its function is no elementwise map, flattening, mean or maximum of a map")


def _try(fn: Callable, y: jax.Array) -> jax.Array:
    try:
        return jnp.asarray(fn(y))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            "its function is no elementwise map, flattening, mean or maximum of a map "
            f"({reason or type(error).__name__})"
        ) from error


def _named(fn: Callable) -> str | Callable:
    """The name in `POINTWISE` that does the same at several hundred numbers, or fn itself."""
    positive = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-3, 1e3, 200)])
    grid = jnp.concatenate([-positive, positive])
    values = np.asarray(jax.vmap(fn)(grid))
    matches = (n for n, f in POINTWISE.items() if np.array_equal(np.asarray(f(grid)), values))
    return next(matches, fn)


def _module(stages: list[_Stage], first, shape, kinked: bool) -> PerceptronModule:
    if isinstance(first, eqx.nn.Conv):
        source = Input("x", tuple(shape), first.in_channels)
    else:
        source = Input("x", () if first.in_features == "scalar" else (first.in_features,))
    hidden = [f"h{i + 1}" for i in range(len(stages) - 1)]
    names, maps = ["x", *hidden, "y"], [_vertex_map(s, kinked) for s in stages]
    edges = [
        Edge(u, v, s.edge) for (u, v), s in zip(itertools.pairwise(names), stages, strict=True)
    ]
    for name, stage in zip(names[1:], stages, strict=True):
        if stage.bias is not None:
            edges.append(Edge("1", name, Bias(stage.space, () if stage.space else None)))
    constant = [Constant("1")] if any(s.bias is not None for s in stages) else []
    vertices = [Hidden(name, m) for name, m in zip(hidden, maps[:-1], strict=True)]
    output = Output("y", maps[-1], stages[-1].copies)
    return PerceptronModule([source, *constant, *vertices, output], edges)
