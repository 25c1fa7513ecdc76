"""Models by size that are no lifts: controls, and the pattern for one's own."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..lift import check_seed
from ..modules.vertex_maps import check_function, resolve_function
from ..registry import register


@register("model")
def dense_mlp(
    size: int,
    seed: int,
    *,
    inputs: int,
    outputs: int | None = None,
    depth: int = 2,
    activation: str = "tanh",
) -> PyTree:
    """equinox's own dense MLP: `size` is its width, weights have variance of order 1 / width.

    Args:
        size: units of each hidden layer.
        seed: of the weights.
        inputs: coordinates of a sample.
        outputs: None for one scalar output of shape (); c for a vector of c outputs.
        depth: hidden layers.
        activation: as for `flowlift.modules.mlp`.

    Returns:
        An `equinox.nn.MLP`, a function of one sample.

    Raises:
        ValueError: for an unknown activation.
    """
    check_function(activation, "dense_mlp")
    return eqx.nn.MLP(
        inputs,
        "scalar" if outputs is None else outputs,
        size,
        depth,
        activation=resolve_function(activation),
        key=jax.random.key(check_seed(seed)),
    )
