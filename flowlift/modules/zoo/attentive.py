"""Attention: heads are copies, tokens are an axis of every activation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ...numbers import plain_numbers
from ...registry import register
from ..axes_maps import Normalise
from ..edge_maps import Bias, Identity, InnerProduct, Matrix, Scalar
from ..perceptron import Constant, Edge, Hidden, Input, Output, PerceptronModule
from ..tuple_maps import Residual, SoftmaxAttention
from ..vertex_maps import Pointwise, TupleMap
from .sizes import check_depth, check_sizes


@register("module")
@plain_numbers
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
    check_sizes(tokens=tokens, channels=channels)
    matrix = Matrix(head_channels)
    return PerceptronModule(
        vertices=[
            Input("x", (tokens, channels)),
            Constant("1"),
            Hidden("a", SoftmaxAttention()),
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


@register("module")
@plain_numbers
def transformer(
    tokens: int,
    channels: int,
    outputs: int | None = None,
    *,
    blocks: int = 2,
    width: int = 4,
    head_channels: int = 4,
    activation: str | Callable = "gelu",
    normalise: bool = False,
) -> PerceptronModule:
    """Blocks of attention and a position-wise MLP, both on residuals, and a mean over tokens.

    The residual stream is a vertex per half block, r0, u1, r1, u2, ...; one copy of it carries
    `width` channels of every token, so that n copies make a stream of n x width channels:

        r0 = W x + position,   u_i = r_{i-1} + sum over heads of W a_i,   r_i = u_i + W m_i + b,
        a_i = softmax(q k^T / sqrt(r)) s of r_{i-1},   m_i = phi(W u_i + b).

    Copies of a_i are heads, and copies of m_i groups of `width` hidden units. The complete lift
    is the ordinary transformer (Vaswani et al., NeurIPS 2017) in pre-normalised order. Residual
    edges are `Identity`, drawn one-to-one by `flowlift.sample`: all vertices of the stream need
    equally many copies.

    Args:
        tokens: number of tokens.
        channels: channels of an input token.
        outputs: None for one scalar output, c for a vector of c outputs.
        blocks: number of blocks.
        width: channels of the stream, and hidden units, that one copy carries.
        head_channels: channels r of q, k and s.
        activation: phi, see `Pointwise`.
        normalise: whether attention and MLP read the stream through vertices n_i and l_i that
            normalise each copy's own channels (layer normalisation in groups of `width`, without
            scale and shift).

    Returns:
        The module.

    Raises:
        ValueError: if a size is below 1, or `normalise` is asked of one channel.
    """
    check_sizes(
        tokens=tokens, channels=channels, blocks=blocks, width=width, head_channels=head_channels
    )
    check_depth("blocks", blocks)
    vertices = [Input("x", (tokens, channels)), Constant("1")]
    vertices += [Hidden("r0", Pointwise("identity"))]
    edges = [Edge("x", "r0", Matrix(width)), Edge("1", "r0", Bias((tokens, width)))]
    bias = Bias((tokens, width), (width,))
    for i in range(1, blocks + 1):
        more = _block(i, width, head_channels, activation, normalise, bias)
        vertices, edges = vertices + more[0], edges + more[1]
    vertices += [Output("y", TupleMap(mean_over_tokens), outputs)]
    edges += [Edge(f"r{blocks}", "y", InnerProduct()), Edge("1", "y", Bias())]
    return PerceptronModule(vertices, edges)


def _block(i: int, width: int, head_channels: int, activation, normalise: bool, bias: Bias):
    """The vertices and edges of one block, from r_{i-1} to r_i."""
    before, between, after = f"r{i - 1}", f"u{i}", f"r{i}"
    head, unit, matrix = f"a{i}", f"m{i}", Matrix(width)
    read, seen = (f"n{i}", f"l{i}") if normalise else (before, between)
    vertices = [
        Hidden(head, SoftmaxAttention()),
        Hidden(between, Residual()),
        Hidden(unit, Pointwise(activation)),
        Hidden(after, Residual()),
    ]
    edges = [Edge(read, head, Matrix(head_channels), f"{letter}{i}") for letter in "qks"]
    edges += [Edge(before, between, Identity()), Edge(head, between, matrix)]
    edges += [Edge(seen, unit, matrix), Edge("1", unit, bias)]
    edges += [Edge(between, after, Identity()), Edge(unit, after, matrix), Edge("1", after, bias)]
    if normalise:
        vertices += [Hidden(read, Normalise(1)), Hidden(seen, Normalise(1))]
        edges += [Edge(before, read, Identity()), Edge(between, seen, Identity())]
    return vertices, edges


def softmax_attention(q: jax.Array, k: jax.Array, s: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(r)) s for arrays of shape (tokens, r)."""
    return jax.nn.softmax(q @ k.T / jnp.sqrt(q.shape[-1]).astype(q.dtype), axis=-1) @ s


def mean_over_tokens(z: jax.Array, bias: jax.Array) -> jax.Array:
    """The mean of z over its first axis plus a bias."""
    return jnp.mean(z, axis=0) + bias
