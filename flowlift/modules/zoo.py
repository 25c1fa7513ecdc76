"""Ready-made perceptron modules: base graphs of a few lines, to copy for the next one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .edge_maps import AbstractEdgeMap, Bias, InnerProduct, Matrix, Scalar
from .perceptron import Constant, Edge, Hidden, Input, Output, PerceptronModule
from .vertex_maps import Pointwise, TupleMap


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
    return _perceptron(inputs, outputs, depth, activation, bias, vector_input, skips=False)


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


def attention(
    tokens: int, channels: int, outputs: int | None = None, *, head_channels: int = 4
) -> PerceptronModule:
    """One softmax attention block with a position-wise layer and a mean over tokens.

    x (tokens x channels) feeds the head vertex "a" by three edges, q, k and s, each a position-wise
    matrix; sigma(q, k, s) = softmax(q k^T / sqrt(r)) s is a function of the tuple, not of a sum
    (theory, section 1 [paper]). Copies of "a" are heads. The copies of "m" are position-wise
    hidden units, tanh of inner products on the channels, and y averages them over the tokens.

    Args:
        tokens: number of tokens.
        channels: channels of a token.
        outputs: None for one scalar output, c for a vector of c outputs.
        head_channels: channels r of q, k and s.

    Returns:
        The module with vertices "x", "a" (heads), "m", "1", "y".

    Raises:
        ValueError: if a size is below 1.
    """
    for name, value in (("tokens", tokens), ("channels", channels)):
        _check_size(name, value)
    matrix = Matrix(head_channels)
    return PerceptronModule(
        vertices=[
            Input("x", (tokens, channels)),
            Constant("1"),
            Hidden("a", TupleMap(softmax_attention)),
            Hidden("m", Pointwise("tanh")),
            Output("y", TupleMap(mean_over_tokens), outputs),
        ],
        edges=[
            Edge("x", "a", matrix, "q"),
            Edge("x", "a", matrix, "k"),
            Edge("x", "a", matrix, "s"),
            Edge("a", "m", InnerProduct()),
            Edge("1", "m", Bias((tokens,))),
            Edge("m", "y", Scalar()),
            Edge("1", "y", Bias()),
        ],
    )


def softmax_attention(q: jax.Array, k: jax.Array, s: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(r)) s for arrays of shape (tokens, r)."""
    return jax.nn.softmax(q @ k.T / jnp.sqrt(q.shape[-1]).astype(q.dtype), axis=-1) @ s


def mean_over_tokens(z: jax.Array, bias: jax.Array) -> jax.Array:
    """The mean of z over its first axis plus a bias."""
    return jnp.mean(z, axis=0) + bias


def _perceptron(inputs, outputs, depth, activation, bias, vector_input, skips) -> PerceptronModule:
    _check_size("inputs", inputs)
    _check_size("depth", depth)
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


def _check_size(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1, but is {value!r}; "
            "give the dimension."
        )
