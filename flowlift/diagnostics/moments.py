"""tr A and |A|_F of a symmetric operator known by its products: exact when small, else Hutch++.

Meyer, Musco, Musco & Woodruff, Hutch++: Optimal Stochastic Trace Estimation, SOSA 2021: a third of
the products finds a range Q, a third treats it exactly, a third estimates the rest,

    tr A ~ tr(Q^T A Q) + mean_g g^T P A P g,   |A|_F^2 ~ |A Q|_F^2 + mean_g |A P g|^2,

with P = 1 - Q Q^T and random signs g. Both are unbiased given Q; the first is exact up to a
relative error O(1 / products) for positive semidefinite A.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..lift import Purpose, stream


class Moments(eqx.Module):
    """Trace and Frobenius norm.

    Attributes:
        trace: tr A.
        frobenius: |A|_F.
        products: products spent.
    """

    trace: Float[Array, ""]
    frobenius: Float[Array, ""]
    products: Int[Array, ""]


def sign_probes(size: int, products: int, seed: int) -> Float[np.ndarray, "2 m N"] | None:
    """The random signs that Hutch++ needs for so many products, drawn on the host.

    Args:
        size: N.
        products: at most so many products, at least 3.
        seed: an integer.

    Returns:
        m = products // 3 sketches and as many probes; None if N products are allowed.

    Raises:
        ValueError: for fewer than 3 products.
    """
    if products < 3:
        raise ValueError(
            f"Argument `products` must be at least 3, but is {products}; Hutch++ needs three parts."
        )
    if size <= products:
        return None
    return 2.0 * stream(seed, Purpose.PROBE, size).integers(0, 2, (2, products // 3, size)) - 1


def moments(operator: Callable, size: int, dtype, probes: ArrayLike | None) -> Moments:
    """tr A and |A|_F: exact by N products without probes, else by 3 m products.

    Args:
        operator: w -> A w on vectors (N,), symmetric.
        size: N.
        dtype: of the vectors.
        probes: None, or `sign_probes`, (2, m, N).

    Returns:
        The moments. Memory: 2 m vectors.
    """
    if probes is None:
        matrix = jax.lax.map(operator, jnp.eye(size, dtype=dtype))
        return Moments(jnp.trace(matrix), jnp.linalg.norm(matrix), jnp.asarray(size))
    sketch, signs = jnp.asarray(probes, dtype)
    third = len(signs)
    basis = jnp.linalg.qr(jax.lax.map(operator, sketch).T)[0].T
    signs = signs - (signs @ basis.T) @ basis
    inside, outside = jax.lax.map(operator, basis), jax.lax.map(operator, signs)
    trace = jnp.sum(basis * inside) + jnp.sum(signs * outside) / third
    squared = jnp.sum(inside**2) + jnp.sum(outside**2) / third
    return Moments(trace, jnp.sqrt(squared), jnp.asarray(3 * third))
