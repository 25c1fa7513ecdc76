"""Convolutional networks: copies are channels, activations are feature maps."""

import itertools
from collections.abc import Callable

from ...numbers import plain_numbers
from ...registry import register
from ..axes_maps import Pool
from ..convolution import Convolution
from ..edge_maps import Bias, Identity, InnerProduct, Scalar, Shape
from ..perceptron import Constant, Edge, Hidden, Input, Output, PerceptronModule
from ..tuple_maps import Residual
from ..vertex_maps import Pointwise
from .sizes import check_choice, check_depth, check_sizes

_HEADS = ("mean", "flatten")


@register("module")
@plain_numbers
def cnn1d(
    length: int,
    channels: int = 1,
    outputs: int | None = None,
    *,
    depth: int = 2,
    kernel: int = 3,
    stride: int = 1,
    padding: str | int = "same",
    pool: int = 1,
    reduce: str = "mean",
    head: str = "mean",
    activation: str | Callable = "tanh",
) -> PerceptronModule:
    """The path x -> h1 -> ... -> h_depth -> y of 1-D convolutions: copies are channels.

    Args:
        length: of a sequence; a sample is (channels, length).
        channels: copies of the input.
        outputs: None for one scalar output, c for a vector of c outputs.
        depth: number of convolutions.
        kernel: length of every kernel.
        stride: of every convolution.
        padding: see `Convolution`.
        pool: window of the pooling after every convolution but the last; 1 for none.
        reduce: "mean" or "max", in these windows.
        head: "mean" for the mean over the last map, then a linear read-out; "flatten" for a
            read-out of every pixel of the last map.
        activation: see `Pointwise`.

    Returns:
        The module, with vertices "x", "1", "h1", ..., "y".

    Raises:
        ValueError: if a size is below 1, a kernel is larger than its map, or windows do not tile
            their map; with the edge or the vertex.
    """
    check_sizes(length=length, kernel=kernel)
    layer = Convolution((kernel,), stride, padding)
    return _cnn((length,), channels, outputs, depth, layer, pool, reduce, head, activation)


@register("module")
@plain_numbers
def cnn2d(
    height: int,
    width: int,
    channels: int = 1,
    outputs: int | None = None,
    *,
    depth: int = 2,
    kernel: int = 3,
    stride: int = 1,
    padding: str | int = "same",
    pool: int = 1,
    reduce: str = "mean",
    head: str = "mean",
    activation: str | Callable = "tanh",
) -> PerceptronModule:
    """`cnn1d` for images: a sample is (channels, height, width), kernels are square.

    Args:
        height: of an image.
        width: of an image.
        channels: as for `cnn1d`.
        outputs: as for `cnn1d`.
        depth: as for `cnn1d`.
        kernel: side of every kernel.
        stride: as for `cnn1d`.
        padding: as for `cnn1d`.
        pool: as for `cnn1d`.
        reduce: as for `cnn1d`.
        head: as for `cnn1d`.
        activation: as for `cnn1d`.

    Returns:
        The module, with vertices "x", "1", "h1", ..., "y".

    Raises:
        ValueError: as for `cnn1d`.
    """
    check_sizes(height=height, width=width, kernel=kernel)
    layer = Convolution((kernel, kernel), stride, padding)
    return _cnn((height, width), channels, outputs, depth, layer, pool, reduce, head, activation)


@register("module")
@plain_numbers
def resnet(
    shape: tuple[int, ...],
    channels: int = 1,
    outputs: int | None = None,
    *,
    blocks: int = 2,
    kernel: int = 3,
    stride: int = 1,
    activation: str | Callable = "tanh",
) -> PerceptronModule:
    """Residual blocks of two convolutions (He et al., ECCV 2016) on maps of any dimension.

        r_0 = phi(w * x + b),   m_i = phi(w * r_{i-1} + b),   r_i = r_{i-1} + w * m_i + b,

    then p, the mean over each map of the last r, and a linear read-out. Residual edges are
    `Identity`, drawn one-to-one by `flowlift.sample`: all r_i and p need equally many copies.

    Args:
        shape: of one input map, (length,) or (height, width); a sample is (channels, *shape).
        channels: copies of the input.
        outputs: None for one scalar output, c for a vector of c outputs.
        blocks: number of residual blocks.
        kernel: side of every kernel.
        stride: of the first convolution; the blocks keep the shape.
        activation: phi, see `Pointwise`.

    Returns:
        The module, with vertices "x", "1", "r0", "m1", "r1", ..., "p", "y".

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(channels=channels, blocks=blocks, kernel=kernel)
    check_depth("blocks", blocks)
    sides = (kernel,) * len(shape)
    stem, inner = Convolution(sides, stride), Convolution(sides)
    phi, bias = Pointwise(activation), _bias(stem, tuple(shape))
    vertices = [Input("x", tuple(shape), channels), Constant("1"), Hidden("r0", phi)]
    edges = [Edge("x", "r0", stem), Edge("1", "r0", bias)]
    for i in range(1, blocks + 1):
        before, unit, after = f"r{i - 1}", f"m{i}", f"r{i}"
        vertices += [Hidden(unit, phi), Hidden(after, Residual())]
        edges += [Edge(before, unit, inner), Edge("1", unit, bias)]
        edges += [Edge(before, after, Identity()), Edge(unit, after, inner)]
        edges += [Edge("1", after, bias)]
    vertices += [Hidden("p", Pool(None)), Output("y", copies=outputs)]
    edges += [Edge(f"r{blocks}", "p", Identity()), Edge("p", "y", Scalar())]
    return PerceptronModule(vertices, [*edges, Edge("1", "y", Bias())])


def _cnn(shape, channels, outputs, depth, layer, pool, reduce, head, activation):
    check_sizes(channels=channels, depth=depth, pool=pool)
    check_depth("depth", depth)
    check_choice("head", head, _HEADS)
    names = ["x", *(f"h{i + 1}" for i in range(depth))]
    between = Pointwise(activation) if pool == 1 else Pool(pool, activation, reduce)
    last = Pool(None, activation) if head == "mean" else Pointwise(activation)
    hidden = [Hidden(name, between) for name in names[1:-1]] + [Hidden(names[-1], last)]
    readout = Scalar() if head == "mean" else InnerProduct(len(shape))
    edges = [Edge(u, v, layer) for u, v in itertools.pairwise(names)]
    edges += [Edge(names[-1], "y", readout)]
    space = shape
    for vertex in hidden:
        bias = _bias(layer, space)
        edges += [Edge("1", vertex.name, bias)]
        space = _after(vertex, bias.shape)
    edges += [Edge("1", "y", Bias())]
    vertices = [Input("x", shape, channels), Constant("1"), *hidden]
    return PerceptronModule([*vertices, Output("y", copies=outputs)], edges)


def _bias(layer: Convolution, shape: Shape) -> Bias:
    """One number for a whole map; where the kernel does not fit, the module says so by edge."""
    try:
        return Bias(layer.output_shape(shape), ())
    except ValueError:
        return Bias(shape, ())


def _after(vertex: Hidden, shape: Shape) -> Shape:
    try:
        return vertex.map.output_shape((shape,))
    except ValueError:
        return shape
