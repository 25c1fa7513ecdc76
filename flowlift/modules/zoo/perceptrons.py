"""Perceptrons: base graphs that are paths, with or without skips."""

from collections.abc import Callable

from ...numbers import plain_numbers
from ...registry import register
from ..edge_maps import AbstractEdgeMap, Bias, Identity, InnerProduct, Scalar
from ..perceptron import Constant, Edge, Hidden, Input, Output, PerceptronModule
from ..vertex_maps import HermiteSum, Pointwise, Sine
from .sizes import check_depth, check_sizes


@register("module")
@plain_numbers
def mlp(
    inputs: int,
    outputs: int | None = None,
    *,
    depth: int = 2,
    activation: str | Callable = "tanh",
    bias: bool = True,
    vector_input: bool = True,
) -> PerceptronModule:
    """The path x -> h1 -> ... -> h_depth -> y: lifts are (sparse) multi-layer perceptrons.

    The complete bipartite lift of this path is the ordinary dense MLP (theory, section 2 [proved]).

    Args:
        inputs: dimension d of the input.
        outputs: None for one scalar output of shape (); c for a vector of c outputs.
        depth: number of hidden vertices, at least 1.
        activation: see `Pointwise`.
        bias: whether hidden and output vertices have an edge from the constant.
        vector_input: True makes x one vertex with Y = R^d and inner-product edges, so that every
            copy of h1 sees all of x; False makes x a fibre of d scalar copies, one per coordinate,
            so that the edge law decides which coordinates a copy of h1 sees.

    Returns:
        The module with vertices "x", "1" (if bias), "h1", ..., "y".

    Raises:
        ValueError: if `inputs`, `outputs` or `depth` is below 1.
    """
    return _perceptron(inputs, outputs, depth, activation, bias, vector_input)


@register("module")
@plain_numbers
def mlp_with_skips(
    inputs: int,
    outputs: int | None = None,
    *,
    depth: int = 3,
    activation: str | Callable = "tanh",
    bias: bool = True,
    vector_input: bool = True,
) -> PerceptronModule:
    """`mlp` with an edge from every earlier vertex: x and all h_j, j < i, feed h_i and y.

    Args:
        inputs: dimension d of the input.
        outputs: as for `mlp`.
        depth: number of hidden vertices, at least 1.
        activation: see `Pointwise`.
        bias: as for `mlp`.
        vector_input: as for `mlp`.

    Returns:
        The module, a complete directed acyclic graph on x, h1, ..., y.

    Raises:
        ValueError: if `inputs`, `outputs` or `depth` is below 1.
    """
    return _perceptron(inputs, outputs, depth, activation, bias, vector_input, skips=True)


@register("module")
@plain_numbers
def siren(
    inputs: int,
    outputs: int | None = None,
    *,
    depth: int = 2,
    frequency: float = 30.0,
    vector_input: bool = True,
) -> PerceptronModule:
    """`mlp` with the activation sin(omega z) (Sitzmann et al., NeurIPS 2020).

    Their initial weights are, in this library's words, Uniform(1 / d) on "x->h1" and
    Uniform(sqrt(6 / k) / omega) on the others, k the in-degree.

    Args:
        inputs: dimension d of the input.
        outputs: as for `mlp`.
        depth: number of hidden vertices, at least 1.
        frequency: omega, in every hidden vertex.
        vector_input: as for `mlp`.

    Returns:
        The module, with the vertices of `mlp`.

    Raises:
        ValueError: if a size is below 1.
    """
    return _perceptron(inputs, outputs, depth, Sine(float(frequency)), True, vector_input)


@register("module")
@plain_numbers
def deep_linear(
    inputs: int, outputs: int | None = None, *, depth: int = 2, vector_input: bool = True
) -> PerceptronModule:
    """`mlp` without activations and biases: a product of depth + 1 (sparse) matrices.

    The balances W_{l+1}^T W_{l+1} - W_l W_l^T of its dense lift are constant along the flow
    (theory, section 8).

    Args:
        inputs: dimension d of the input.
        outputs: as for `mlp`.
        depth: number of hidden vertices, at least 1.
        vector_input: as for `mlp`.

    Returns:
        The module, with the vertices of `mlp`.

    Raises:
        ValueError: if a size is below 1.
    """
    return _perceptron(inputs, outputs, depth, "identity", False, vector_input)


@register("module")
@plain_numbers
def two_layer(
    inputs: int,
    outputs: int | None = None,
    *,
    activation: str | Callable = "tanh",
    bias: bool = True,
    vector_input: bool = True,
) -> PerceptronModule:
    """`mlp` of depth 1: x -> h1 -> y, the most studied network of all.

    Args:
        inputs: dimension d of the input.
        outputs: as for `mlp`.
        activation: see `Pointwise`.
        bias: as for `mlp`.
        vector_input: as for `mlp`.

    Returns:
        The module, with vertices "x", "1" (if bias), "h1", "y".

    Raises:
        ValueError: if a size is below 1.
    """
    return _perceptron(inputs, outputs, 1, activation, bias, vector_input)


@register("module")
@plain_numbers
def committee(inputs: int, *, activation: str | Callable = "erf_root2") -> PerceptronModule:
    """The soft committee machine y = sum_i phi(<w_i, x>): a fixed read-out of ones, no biases.

    Saad and Solla, Phys. Rev. E 52 (1995), with phi(z) = erf(z / sqrt 2); for teacher-student work
    (theory, section 8). The read-out edges are `Identity`: nothing on them is trained.

    Args:
        inputs: dimension d of the input.
        activation: see `Pointwise`.

    Returns:
        The module, with vertices "x", "h1", "y".

    Raises:
        ValueError: if `inputs` is below 1.
    """
    check_sizes(inputs=inputs)
    return PerceptronModule(
        [Input("x", (inputs,)), Hidden("h1", Pointwise(activation)), Output("y")],
        [Edge("x", "h1", InnerProduct()), Edge("h1", "y", Identity())],
    )


@register("module")
@plain_numbers
def polynomial_committee(inputs: int, coefficients: tuple[float, ...]) -> PerceptronModule:
    """The `committee` with phi = sum_k c_k he_k, normalised Hermite polynomials.

    Quadratic units are c = (0, 0, 1), up to a constant and a factor; for the closed-form loss of
    `tasks.polynomial_committee`.

    Args:
        inputs: dimension d of the input.
        coefficients: c_0, c_1, ...

    Returns:
        The module, with vertices "x", "h1", "y".

    Raises:
        ValueError: if `inputs` is below 1, or there are no finite coefficients.
    """
    return committee(inputs, activation=HermiteSum(coefficients))


def _perceptron(
    inputs, outputs, depth, activation, bias, vector_input, skips=False
) -> PerceptronModule:
    check_sizes(inputs=inputs, depth=depth)
    check_depth("depth", depth, depth * (depth + 1) // 2 if skips else None)
    x = Input("x", (inputs,)) if vector_input else Input("x", (), inputs)
    layers = [f"h{i + 1}" for i in range(depth)]
    names = ["x", *layers, "y"]
    first: AbstractEdgeMap = InnerProduct() if vector_input else Scalar()
    edges = [
        Edge(names[i], names[j], first if i == 0 else Scalar())
        for j in range(1, len(names))
        for i in (range(j) if skips else [j - 1])
    ]
    if bias:
        edges += [Edge("1", name, Bias()) for name in names[1:]]
    hidden = [Hidden(name, Pointwise(activation)) for name in layers]
    constant = [Constant("1")] if bias else []
    return PerceptronModule([x, *constant, *hidden, Output("y", copies=outputs)], edges)
