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
from ..showing import shows_itself
from .checks import whole


@shows_itself
class Moments(eqx.Module):
    """Trace and Frobenius norm.

    Attributes:
        trace: tr A.
        frobenius: |A|_F.
        products: products spent.
        trace_error: standard error of the trace over its random probes; 0 where it is exact,
            infinite with a single probe, which tells nothing of its spread.
        frobenius_error: likewise.
    """

    trace: Float[Array, ""]
    frobenius: Float[Array, ""]
    products: Int[Array, ""]
    trace_error: Float[Array, ""]
    frobenius_error: Float[Array, ""]

    @property
    def relative_error(self) -> Float[Array, ""]:
        """Of |A|_F; 0 for A = 0."""
        return _ratio(self.frobenius_error, self.frobenius)

    @property
    def effective_rank(self) -> Float[Array, ""]:
        """(tr A)^2 / |A|_F^2."""
        return (self.trace / self.frobenius) ** 2

    @property
    def effective_rank_error(self) -> Float[Array, ""]:
        """Its error to first order, both parts added: they rest on the same probes."""
        relative = _ratio(self.trace_error, jnp.abs(self.trace)) + self.relative_error
        return 2 * self.effective_rank * relative


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
    products = whole("products", products, 3)  # Hutch++ needs three parts.
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
        The moments with their standard errors. Memory: 2 m vectors.
    """
    if probes is None:
        matrix = jax.lax.map(operator, jnp.eye(size, dtype=dtype))
        exact = jnp.zeros((), dtype)
        both = jnp.trace(matrix), jnp.linalg.norm(matrix)
        return Moments(*both, jnp.asarray(size), exact, exact)
    sketch, signs = jnp.asarray(probes, dtype)
    third = len(signs)
    basis = jnp.linalg.qr(jax.lax.map(operator, sketch).T)[0].T
    signs = signs - (signs @ basis.T) @ basis
    inside, outside = jax.lax.map(operator, basis), jax.lax.map(operator, signs)
    traces, squares = jnp.sum(signs * outside, axis=1), jnp.sum(outside**2, axis=1)
    trace = jnp.sum(basis * inside) + jnp.mean(traces)
    frobenius = jnp.sqrt(jnp.sum(inside**2) + jnp.mean(squares))
    # d|A|_F = d|A|_F^2 / (2 |A|_F).
    error = _ratio(_standard_error(squares), 2 * frobenius)
    return Moments(trace, frobenius, jnp.asarray(3 * third), _standard_error(traces), error)


def _standard_error(values: Float[Array, " m"]) -> Float[Array, ""]:
    if len(values) < 2:
        return jnp.asarray(jnp.inf, values.dtype)
    return jnp.std(values, ddof=1) / len(values) ** 0.5


def _ratio(part: Float[Array, ""], whole: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(part > 0, part / jnp.where(part > 0, whole, 1), 0 * part)
