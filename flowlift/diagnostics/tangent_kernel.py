"""The tangent kernel K = J J^T on L^2(D): products, eigenvalues, moments, drift, the full matrix.

K is the empirical NTK divided by the number of samples, so that its eigenvalues are those of an
operator on L^2(D) (theory, section 7) and the linearised flow decays like exp(-2 K t).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..flow.rates import Rates
from ..showing import shows_itself
from ..solvers import RitzPairs, SpectralEnds, generic_vector, ritz_pairs, spectral_ends
from ..tasks import AbstractObjective, Task
from .checks import whole
from .moments import Moments, moments, sign_probes
from .room import vectors_within
from .tangent import Tangent, Trainable, tangent

_PRODUCTS = 48


def kernel_matrix(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    limit: int = 2048,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Float[Array, "N N"]:
    """The full matrix of K in L^2(D), (N, N), N = samples x outputs, samples outermost.

    Args:
        model: the model.
        task: a task with samples.
        limit: the largest N allowed.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        K. Cost: 2 N gradients, one product at a time; memory: N^2 numbers.

    Raises:
        ValueError: if N exceeds the limit.
    """
    at = tangent(model, task, trainable, rates=rates)
    size = _size(at)
    if size > limit:
        raise ValueError(
            f"Argument `limit` must be at least samples x outputs = {size} for the full matrix, "
            f"but is {limit}; raise it, or use products, `kernel_top` and `kernel_moments`."
        )
    return _matrix(at)


def kernel_product(
    model: PyTree,
    task: Task | AbstractObjective,
    vector: Float[Array, " N"],
    *,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Float[Array, " N"]:
    """K w. Cost: 2 gradients.

    Args:
        model: the model.
        task: a task with samples.
        vector: w, (N,).
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        K w, (N,).
    """
    return _product(tangent(model, task, trainable, rates=rates), jnp.asarray(vector))


def kernel_top(
    model: PyTree,
    task: Task | AbstractObjective,
    count: int,
    *,
    rtol: float = 1e-6,
    max_products: int | None = None,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> RitzPairs:
    """The `count` largest eigenvalues of K with their eigenfunctions, by Lanczos.

    Args:
        model: the model.
        task: a task with samples.
        count: k, at most N.
        rtol: stop when all residuals are at most rtol times the largest eigenvalue.
        max_products: at most so many products, by default 8 k + 100. Where they are spent first,
            the residuals tell which pairs have settled, and `complete` is false: others may be
            missing among them.
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors, fewer products are made.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        The pairs with their residuals, multiple eigenvalues as often as they occur. Cost: 2
        gradients a product.

    Raises:
        ValueError: if not 1 <= count <= N.
    """
    at = tangent(model, task, trainable, rates=rates, memory=memory)
    count = whole("count", count, 1, _size(at))
    limit = 8 * count + 100 if max_products is None else whole("max_products", max_products, 1)
    most = vectors_within(memory, at.values, least=2 * count, sets=2) - count
    return _top(at, count, rtol, min(limit, most))


def kernel_ends(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    rtol: float = 1e-6,
    max_products: int = 300,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> SpectralEnds:
    """The least and the largest eigenvalue of K, by Lanczos.

    Args:
        model: the model.
        task: a task with samples.
        rtol: stop when both residuals are at most rtol times the largest eigenvalue.
        max_products: at most so many products; where they are spent first, the residuals say so.
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors, fewer products are made.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        Both ends with their residuals. Cost: 2 gradients a product; memory: one vector of N
        numbers for each of `max_products`.
    """
    max_products = whole("max_products", max_products, 2)
    at = tangent(model, task, trainable, rates=rates, memory=memory)
    most = vectors_within(memory, at.values, least=2)
    return _ends(at, rtol, min(max_products, most))


def kernel_moments(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    products: int = _PRODUCTS,
    seed: int = 0,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Moments:
    """tr K and |K|_F, exact if N <= `products`, else by Hutch++.

    Args:
        model: the model.
        task: a task with samples.
        products: at most so many products, 2 gradients each.
        seed: seeds the probes.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        The moments.
    """
    at = tangent(model, task, trainable, rates=rates)
    return _moments(at, _probes(at, products, seed))


def effective_rank(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    products: int = _PRODUCTS,
    seed: int = 0,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Float[Array, ""]:
    """(tr K)^2 / |K|_F^2: how many eigenvalues share the trace evenly, between 1 and the rank.

    Args:
        model: the model.
        task: a task with samples.
        products: as for `kernel_moments`, which decides cost and error.
        seed: seeds the probes.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        The participation ratio of the spectrum; NaN for K = 0, which has none.
    """
    at = tangent(model, task, trainable, rates=rates)
    return _moments(at, _probes(at, products, seed)).effective_rank


@shows_itself
class Alignment(eqx.Module):
    """Of K with two directions, each <v, K v> / (|v|^2 |K|_F), in [0, 1]; NaN for v = 0 or K = 0.

    Attributes:
        residual: with f - f*, for other losses with grad l.
        target: with f*; NaN for labels, which are no function.
        relative_error: standard error of |K|_F relative to it, which both share; 0 if exact.
        products: products spent on |K|_F.
    """

    residual: Float[Array, ""]
    target: Float[Array, ""]
    relative_error: Float[Array, ""]
    products: Int[Array, ""]


def kernel_alignment(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    products: int = _PRODUCTS,
    seed: int = 0,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Alignment:
    """How well the kernel sees what is to be learnt (Cristianini et al., NeurIPS 2001).

    Args:
        model: the model.
        task: a task with samples.
        products: for |K|_F, as for `kernel_moments`.
        seed: seeds the probes.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        Both alignments. Cost: that of `kernel_moments` and 2 gradients.
    """
    at = tangent(model, task, trainable, rates=rates)
    return _alignment(at, _probes(at, products, seed))


def kernel_drift(
    model: PyTree,
    task: Task | AbstractObjective,
    reference: PyTree,
    *,
    products: int = _PRODUCTS,
    seed: int = 0,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Float[Array, ""]:
    """|K - K_0|_F / |K_0|_F: 0 for lazy training, O(1) where features are learnt.

    Args:
        model: the model, where K is taken.
        task: a task with samples.
        reference: the model where K_0 is taken.
        products: as for `kernel_moments`: exact if N is no larger.
        seed: seeds the probes.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        The drift; not finite for K_0 = 0, relative to which there is none. Cost: 6 gradients for
        each of `products`.
    """
    change, first = kernel_change(
        model, task, reference, products=products, seed=seed, trainable=trainable, rates=rates
    )
    return change.frobenius / first.frobenius


def kernel_change(
    model: PyTree,
    task: Task | AbstractObjective,
    reference: PyTree,
    *,
    products: int = _PRODUCTS,
    seed: int = 0,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> tuple[Moments, Moments]:
    """The moments of K - K_0 and of K_0, with their standard errors; see `kernel_drift`.

    Args:
        model: the model, where K is taken.
        task: a task with samples.
        reference: the model where K_0 is taken.
        products: as for `kernel_moments`.
        seed: seeds the probes.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: K is then J D J^T.

    Returns:
        Both moments. Cost: 2 gradients, and 6 for each of their products.
    """
    here, there = (
        tangent(model, task, trainable, rates=rates),
        tangent(reference, task, trainable, rates=rates),
    )
    return _change(here, there, _probes(here, products, seed))


def _size(at: Tangent) -> int:
    return at.values.size


def _probes(at: Tangent, products: int, seed: int) -> Array | None:
    probes = sign_probes(_size(at), products, seed)
    return None if probes is None else jnp.asarray(probes)


@eqx.filter_jit
def _matrix(at: Tangent) -> Array:
    linear = at.linearise()
    identity = jnp.eye(linear.outputs.size, dtype=linear.outputs.dtype)
    matrix = jax.lax.map(linear.kernel, identity)
    return (matrix + matrix.T) / 2


@eqx.filter_jit
def _product(at: Tangent, vector: Array) -> Array:
    return at.linearise().kernel(vector)


@eqx.filter_jit
def _top(at: Tangent, count: int, rtol: float, max_products: int) -> RitzPairs:
    linear = at.linearise()
    start = generic_vector(linear.outputs.size, linear.outputs.dtype)
    return ritz_pairs(linear.kernel, start, count, rtol=rtol, max_products=max_products)


@eqx.filter_jit
def _ends(at: Tangent, rtol: float, max_products: int) -> SpectralEnds:
    linear = at.linearise()
    start = generic_vector(linear.outputs.size, linear.outputs.dtype)
    return spectral_ends(linear.kernel, start, rtol=rtol, max_products=max_products)


@eqx.filter_jit
def _moments(at: Tangent, probes: Array | None) -> Moments:
    linear = at.linearise()
    size, dtype = linear.outputs.size, linear.outputs.dtype
    return moments(linear.kernel, size, dtype, probes)


@eqx.filter_jit
def _alignment(at: Tangent, probes: Array | None) -> Alignment:
    linear = at.linearise()
    size, dtype = linear.outputs.size, linear.outputs.dtype
    both = moments(linear.kernel, size, dtype, probes)
    norm = both.frobenius

    def along(v: Array) -> Array:
        return jnp.sum(linear.pull(v) ** 2) / (v @ v) / norm

    residual = along(at.output_gradient(linear.outputs))
    function = jnp.issubdtype(at.objective.targets.dtype, jnp.inexact)
    target = along(at.targets) if function else residual * jnp.nan
    return Alignment(residual, target, both.relative_error, both.products)


@eqx.filter_jit
def _change(here: Tangent, there: Tangent, probes: Array | None) -> tuple[Moments, Moments]:
    one, other = here.linearise(), there.linearise()
    size, dtype = one.outputs.size, one.outputs.dtype
    change = moments(lambda w: one.kernel(w) - other.kernel(w), size, dtype, probes)
    return change, moments(other.kernel, size, dtype, probes)
