"""The sum over a fibre of scalar edges: one meaning, several methods."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from flowlift.kernels.choice import METHODS, choose
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.trilinear import push


def fibre_sum(
    fibre: Fibre, w: Float[Array, " edges"], y: Float[Array, "n_u b"], *, method: str = "auto"
) -> Float[Array, "n_v b"]:
    r"""Sum scaled values over the lifted edges that enter each copy of the target.

    z[v] = Σ_{e : target(e) = v} w[e] y[source(e)], an empty sum being 0. Differentiable to any
    order in any nesting; the derivative with respect to padded weights is exactly 0.

    Cost: edges × columns multiply-adds for the value, twice as many more for both derivatives.
    No array of size edges × columns is made, except by the method 'naive'.

    Args:
        fibre: the edges u → v.
        w: one weight per edge, in the fibre's order.
        y: activations (copies, columns), columns = samples × size of the activation space.
        method: 'csr' (compiled sparse product), 'padded' (rows of equal width), 'dense' (scatter
            to a matrix), 'complete' (complete fibres only), 'naive' (gather and segment sum), or
            'auto': see `choose`.

    Returns:
        Pre-activations (copies of v, columns).

    Raises:
        ValueError: if shapes do not fit the fibre, or the method is unknown or does not apply.
    """
    w, y = jnp.asarray(w), jnp.asarray(y)
    _check_shapes(fibre, w, y)
    dtype = jnp.result_type(w, y)
    name = resolve(fibre, y.shape[1], dtype, method)
    return push(fibre, w.astype(dtype), y.astype(dtype), name)


def resolve(fibre: Fibre, columns: int, dtype: jnp.dtype, method: str) -> str:
    """Turn 'auto' into a method, and check that a method applies.

    Args:
        fibre: the edges.
        columns: columns of the activations.
        dtype: of weights and activations.
        method: the caller's wish.

    Returns:
        A name from `METHODS`.

    Raises:
        ValueError: if the method is unknown or does not apply to the fibre.
    """
    if method == "auto":
        return choose(fibre, columns, dtype)
    if method not in METHODS:
        raise ValueError(
            f"Argument `method` must be 'auto' or one of {METHODS}, but is {method!r}."
        )
    if fibre.is_complete and method not in ("complete", "dense"):
        raise ValueError(
            f"Argument `method` must be 'complete' or 'dense' on a complete fibre, which has no "
            f"index arrays, but is {method!r}. Build it from its edges to use another."
        )
    if method == "complete" and not fibre.is_complete:
        raise ValueError(
            "Argument `method` may be 'complete' only for a fibre made by `Fibre.complete`. "
            "Use 'dense'."
        )
    return method


def _check_shapes(fibre: Fibre, w: Array, y: Array) -> None:
    if w.shape != (fibre.capacity,):
        raise ValueError(
            f"Argument `w` must have shape ({fibre.capacity},), one weight per edge with padding, "
            f"but has {w.shape}."
        )
    if y.ndim != 2 or y.shape[0] != fibre.n_sources:
        raise ValueError(
            f"Argument `y` must have shape ({fibre.n_sources}, columns), one row per source copy, "
            f"but has {y.shape}. Fold the activation space into the columns."
        )
