"""Low-rank matrices: factorisation and completion, and models that are products of matrices."""

import functools
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..memory import check_memory
from ..precision import check_precision
from ..protocols import AbstractSamplewise, AbstractSmoothness
from ..registry import register
from ..showing import shows_itself
from ..streams import Purpose, stream
from .arguments import count, number, one_of, several
from .held_out import HeldOut, held_out_count, provenance_of
from .task import Task, supervised

Pairs = Int[Array, "samples 2"]
STARTS = ("gaussian", "identity")


@shows_itself
class MatrixProduct(eqx.Module, AbstractSamplewise, AbstractSmoothness):
    """W_1 W_2 ... W_L, (rows, columns), as a function of an entry's place (i, j).

    Attributes:
        factors: W_1 (rows, r), W_2 (r, r), ..., W_L (r, columns).
    """

    factors: tuple[Float[Array, "_ _"], ...]

    @property
    def smooth(self) -> bool:
        """It is a polynomial."""
        return True

    def matrix(self) -> Float[Array, "rows columns"]:
        """The product itself."""
        return functools.reduce(jnp.matmul, self.factors)

    def batch(self, xs: Pairs) -> Float[Array, " samples"]:
        """The entries at some places; cost: the whole product, once."""
        return self.matrix()[xs[:, 0], xs[:, 1]]

    def __call__(self, x: Int[Array, "2"]) -> Float[Array, ""]:
        """The entry at (i, j)."""
        return self.matrix()[x[0], x[1]]


@shows_itself
class SymmetricProduct(eqx.Module, AbstractSamplewise, AbstractSmoothness):
    """U U^T, (rows, rows), as a function of an entry's place (i, j).

    Attributes:
        factor: U, (rows, r).
    """

    factor: Float[Array, "rows r"]

    @property
    def smooth(self) -> bool:
        """It is a polynomial."""
        return True

    def matrix(self) -> Float[Array, "rows rows"]:
        """The product itself."""
        return self.factor @ self.factor.T

    def batch(self, xs: Pairs) -> Float[Array, " samples"]:
        """The entries at some places; cost: the whole product, once."""
        return self.matrix()[xs[:, 0], xs[:, 1]]

    def __call__(self, x: Int[Array, "2"]) -> Float[Array, ""]:
        """The entry at (i, j)."""
        return self.matrix()[x[0], x[1]]


@register("model")
def matrix_product(
    size: int,
    seed: int,
    *,
    rows: int,
    columns: int | None = None,
    depth: int = 2,
    scale: float = 1e-3,
    start: str = "gaussian",
) -> MatrixProduct | SymmetricProduct:
    """A product of matrices of inner dimension `size`, for `matrix_completion`.

    Args:
        size: the inner dimension r: the product has at most this rank.
        seed: of the Gaussian entries.
        rows: rows of the product.
        columns: its columns; None for U U^T.
        depth: factors L, 2 or more; 2 for U U^T.
        scale: standard deviation of the entries, or the number on the diagonals.
        start: "gaussian", independent entries; "identity", multiples of the identity, filled with
            zeros where a factor is not square.

    Returns:
        The model, in JAX's own precision; depth 2 is the factorisation of Gunasekar et al.,
        NeurIPS 2017, arXiv 1705.09280, more that of Arora et al., NeurIPS 2019, arXiv 1905.13655.

    Raises:
        ValueError: for numbers outside their ranges, U U^T of another depth, an unknown start, or
            factors that exceed the machine's memory.
    """
    one_of("start", start, STARTS)
    r, m = count("size", size), count("rows", rows)
    n = m if columns is None else count("columns", columns)
    layers = count("depth", depth, 2, 2 if columns is None else None)
    far = number("scale", scale, 0)
    ends = [m, *[r] * (layers - 1), n]
    shapes = [(ends[i], ends[i + 1]) for i in range(layers)]
    check_memory("size", r, 8 * sum(map(math.prod, shapes)), "factors in float64")
    rng = stream(seed, Purpose.WEIGHTS, r)
    draw = rng.standard_normal if start == "gaussian" else lambda shape: np.eye(*shape)
    factors = tuple(jnp.asarray(far * draw(shape)) for shape in shapes)
    return SymmetricProduct(factors[0]) if columns is None else MatrixProduct(factors)


@register("task")
def matrix_completion(
    rows: int,
    columns: int,
    rank: int,
    *,
    seed: int,
    observed: float = 1.0,
    singular_values: tuple[float, ...] = (),
    symmetric: bool = False,
    noise: float = 0.0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Recover a low-rank matrix M from some of its entries, all of them for factorisation.

    L is the mean over the observed entries of (X_ij - M_ij)^2: samples are places (i, j), outputs
    the entries there, as those of `MatrixProduct` and `SymmetricProduct`. M = U diag(s) V^T with
    uniform orthonormal frames U and V, V = U if symmetric. Which matrix a flow from a small start
    ends in is the question of Gunasekar et al., NeurIPS 2017, arXiv 1705.09280.

    Args:
        rows: of M.
        columns: of M.
        rank: of M, at most the smaller of both.
        seed: seeds M, the places and the noise, by separate streams.
        observed: the fraction of the entries, drawn without replacement.
        singular_values: s, `rank` positive numbers; none for equal ones that make the mean of
            M_ij^2 equal to 1.
        symmetric: whether M = U diag(s) U^T.
        noise: standard deviation of Gaussian noise added to the observed entries.
        held_out: how many entries that are not observed, or which fraction of all entries, a flow's
            loss is recorded on; None for none. With 1 - `observed` they are all others.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "matrix" M, "singular values" s, and without noise "least loss" =
        0 and, if all entries are observed, "losses by rank": the least loss of a product of rank
        0, 1, ..., rank, sum over i > k of s_i^2 / (rows columns) (Eckart & Young 1936).

    Raises:
        ValueError: for numbers outside their ranges, a fraction of no entry, a symmetric matrix
            that is not square, or matrices that exceed the machine's memory.
    """
    check_precision(precision)
    m, n = count("rows", rows), count("columns", columns)
    r, sigma = count("rank", rank, 1, min(m, n)), number("noise", noise, 0)
    # Places, entries and M itself: three numbers an entry, and the places a second time.
    check_memory("rows", m, 32 * m * n, f"a matrix of {m} x {n} numbers with the places of entries")
    values = _singular_values(singular_values, r, m * n)
    seen = _seen(observed, m * n)
    matrix = _low_rank(m, n, values, symmetric, seed)
    rng = stream(seed, Purpose.DATA)
    order = rng.permutation(m * n)
    kept = held_out_count(held_out, m * n, m * n - seen)
    chosen, others = np.sort(order[:seen]), np.sort(order[m * n - kept :])
    targets = matrix.ravel()[chosen]
    if sigma:
        targets = targets + sigma * rng.standard_normal(seen)
    places = lambda of: np.stack(np.divmod(of, n), axis=1).astype(np.int32)
    theirs = matrix.ravel()[others]
    if sigma:
        theirs = theirs + sigma * stream(seed, Purpose.HELD_OUT).standard_normal(kept)
    facts = {"matrix": matrix, "singular values": values}
    return supervised(
        places(chosen),
        targets.astype(precision),
        name="matrix-completion" if seen < m * n else "matrix-factorisation",
        provenance={
            "source": "arXiv 1705.09280",
            "rows": m,
            "columns": n,
            "rank": r,
            "observed": seen,
            "singular values": values.tolist(),
            "symmetric": symmetric,
            "noise": sigma,
            "seed": seed,
            **provenance_of(kept),
        },
        facts=facts | ({} if sigma else _exact(values, m * n, whole=seen == m * n)),
        held_out=(places(others), theirs.astype(precision)) if kept else None,
    )


def _exact(values: np.ndarray, entries: int, *, whole: bool) -> dict[str, Any]:
    """What is known without noise."""
    tails = np.append(np.cumsum(np.sort(values**2))[::-1], 0.0)
    return {"least loss": 0.0} | ({"losses by rank": tails / entries} if whole else {})


def _singular_values(given: tuple[float, ...], rank: int, entries: int) -> np.ndarray:
    if len(several("singular_values", given, "[2.0, 1.0]")) not in (0, rank):
        raise ValueError(
            f"Argument `singular_values` must hold {rank} numbers, as the rank says, or none, but "
            f"is {given!r:.60}; correct one of them."
        )
    if not len(given):
        return np.full(rank, math.sqrt(entries / rank))
    return np.array([number("singular_values", s, 0, above=True) for s in given])


def _seen(observed: float, entries: int) -> int:
    share = number("observed", observed, 0, above=True)
    seen = round(share * entries) if share <= 1 else 0
    if seen < 1:
        raise ValueError(
            f"Argument `observed` must be a fraction, at most 1, of at least one of {entries} "
            f"entries, but is {observed!r}; give e.g. 0.5."
        )
    return seen


def _low_rank(m: int, n: int, values: np.ndarray, symmetric: bool, seed: int) -> np.ndarray:
    if symmetric and m != n:
        raise ValueError(
            f"Argument `symmetric` must be False for a matrix of {m} x {n}, but is {symmetric!r}; "
            "make it square."
        )
    rng = stream(seed, Purpose.TEACHER)
    left = np.linalg.qr(rng.standard_normal((m, len(values))))[0]
    right = left if symmetric else np.linalg.qr(rng.standard_normal((n, len(values))))[0]
    return (left * values) @ right.T
