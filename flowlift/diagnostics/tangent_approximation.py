r"""Tangent approximation: how far theta must move, to first order, for the loss to reach eps.

    kappa(eps) = min { |u| : E|r + J u|^2 <= eps },   r = F - f*         (theory, section 5 [paper])

With K = J J^T and the spectral measure of r, dw(l) = sum_i <r, e_i>^2 delta(l - l_i), the ridge
problems min_u |r + J u|^2 + mu |u|^2 have

    residual rho(mu) = int (mu / (l + mu))^2 dw,   kappa^2 = int l / (l + mu)^2 dw,   rho(mu) = eps.

One bidiagonalisation of J from r gives two discrete measures, Gauss's and Gauss-Radau's with a node
at 0 (`spectral_measure`), for **all** eps at once.

Both bracket kappa [proved]: by duality kappa^2(eps) = max_mu { <r, (K + mu)^{-1} r> - eps / mu },
and of the completely monotone 1 / (l + mu) the Gauss rule gives a lower bound, the Gauss-Radau
rule an upper one; each rule's kappa is the same maximum for its own measure.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..flow.rates import Rates
from ..showing import shows_itself
from ..solvers.bidiagonal import Bidiagonal, bidiagonalise
from ..tasks import AbstractObjective, Task
from .checks import is_traced
from .room import vectors_within
from .spectral_measure import SpectralMeasure, measures
from .tangent import Linearised, Tangent, Theta, Trainable, Values, tangent

MAX_PRODUCTS = 98
_EVERY = 4


@shows_itself
class Radius(eqx.Module):
    """kappa(eps), bracketed.

    Attributes:
        kappa: the upper bound: some u with |u| <= kappa attains eps. Infinite if none is known.
        lower: no shorter u does. Infinite if no u does at all.
    """

    kappa: Float[Array, "*levels"]
    lower: Float[Array, "*levels"]

    @property
    def width(self) -> Float[Array, "*levels"]:
        """kappa - lower; 0 where both are infinite."""
        known = jnp.isfinite(self.lower)
        return jnp.where(known, self.kappa - jnp.where(known, self.lower, 0), 0)


@shows_itself
class TangentCurve(eqx.Module):
    """kappa(eps) for every eps, from one bidiagonalisation.

    Attributes:
        loss: L = |r|^2, from where on kappa = 0.
        lower: the Gauss measure.
        upper: the Gauss-Radau measure with a node at 0.
        products: products with J, and as many with J^T.
        largest: the largest eigenvalue of K found; singular values of J below N x rounding x its
            square root count as 0, since products cannot tell them from it.
    """

    loss: Float[Array, ""]
    lower: SpectralMeasure
    upper: SpectralMeasure
    products: Int[Array, ""]
    largest: Float[Array, ""]

    @property
    def gradients(self) -> Int[Array, ""]:
        """Cost in gradients: two for each pair of products, one for r."""
        return 1 + 2 * self.products

    @property
    def floor(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """A bracket of inf_u E|r + J u|^2, exact once the Krylov space has closed."""
        return self.lower.floor, self.upper.floor

    def kappa(self, eps: Float[Array, "*levels"] | Sequence[float] | float) -> Radius:
        """The radius with its bracket.

        Args:
            eps: one level of the linearised loss, or an array of them.

        Returns:
            The radius, of the shape of eps.
        """
        levels = jnp.asarray(eps, self.loss.dtype)
        return _radius(self, levels)

    def levels(self, count: int = 64, least: float = 1e-6) -> Float[Array, " count"]:
        """Levels from L down to the floor, or to `least` x L if that is higher, for drawing.

        Args:
            count: how many.
            least: the lowest level relative to L.

        Returns:
            Decreasing levels, evenly spaced in log(eps - floor).
        """
        floor = self.upper.floor
        gaps = jnp.logspace(0, jnp.log10(least), count, dtype=self.loss.dtype)
        return floor + (self.loss - floor) * gaps


def tangent_curve(
    model: PyTree,
    task: Task | AbstractObjective,
    eps: float | Sequence[float] | None = None,
    *,
    rtol: float = 1e-6,
    max_products: int = MAX_PRODUCTS,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> TangentCurve:
    """The curve eps -> kappa(eps) at a model, with its floor.

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: levels at which the bracket must close; None goes on until the curve is exact or the
            products are spent. The curve can be asked at any level either way.
        rtol: stop when (upper - lower) <= rtol x upper at these levels, or both are infinite.
        max_products: at most so many products with J and with J^T, 2 gradients together.
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors, fewer products are made.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: |u| is then |D^(-1/2) u|.

    Returns:
        The curve. Cost: `gradients`, at most 1 + 2 max_products; memory: a vector a product, in
        function space (N = samples x outputs numbers) or in that of theta, whichever is smaller,
        and that of one gradient. Once it has closed, relative errors of kappa are those that
        rounding in J makes: at condition 1e6 about 3e-11 (function space) and up to 9e-7 (that of
        theta, a billionth above the floor), at condition 1e9 about 5e-8 and 2e-5 a millionth above
        the floor; a billionth above it kappa is then known to no digit.

    Raises:
        ValueError: if the task's loss is not squared, or a level is negative.
    """
    levels = None if eps is None else _check_levels(eps)
    at = tangent(model, task, trainable, squared=True, rates=rates, memory=memory)
    return _curve(at, levels, jnp.asarray(rtol), _affordable(at, max_products, memory))


def tangent_radius(
    model: PyTree,
    task: Task | AbstractObjective,
    eps: float,
    *,
    rtol: float = 1e-6,
    max_products: int = MAX_PRODUCTS,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Radius:
    """kappa(eps) at one level; see `tangent_curve`.

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: the level.
        rtol: relative width of the bracket.
        max_products: at most so many products with J and with J^T.
        memory: as for `tangent_curve`.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: |u| is then |D^(-1/2) u|.

    Returns:
        The bracket.

    Raises:
        ValueError: as for `tangent_curve`.
    """
    curve = tangent_curve(
        model,
        task,
        eps,
        rtol=rtol,
        max_products=max_products,
        memory=memory,
        trainable=trainable,
        rates=rates,
    )
    return curve.kappa(eps)


@shows_itself
class Move(eqx.Module):
    """The shortest u with E|r + J u|^2 <= eps.

    Attributes:
        step: u, (P,), in the order of theta.
        length: |u|, with rates |D^(-1/2) u|.
        residual: E|r + J u|^2, computed by one more product: what u really attains.
    """

    step: Float[Array, " P"]
    length: Float[Array, ""]
    residual: Float[Array, ""]


def tangent_move(
    model: PyTree,
    task: Task | AbstractObjective,
    eps: float,
    *,
    rtol: float = 1e-6,
    max_products: int = MAX_PRODUCTS,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Move:
    """u = -J^T (K + mu)^{-1} r, the step that attains kappa(eps).

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: the level, above the floor: below it the best step found is returned, and `residual`
            says so.
        rtol: as for `tangent_curve`.
        max_products: as for `tangent_curve`.
        memory: as for `tangent_curve`.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: |u| is then |D^(-1/2) u|.

    Returns:
        The step. Cost: that of `tangent_curve` and 2 gradients.

    Raises:
        ValueError: as for `tangent_curve`.
    """
    at = tangent(model, task, trainable, squared=True, rates=rates, memory=memory)
    most = _affordable(at, max_products, memory)
    return _move(at, _check_levels(eps), jnp.asarray(rtol), most)


def _affordable(at: Tangent, max_products: int, memory: int | None) -> int:
    """At most so many products as the memory holds vectors of the shorter kind."""
    values, theta = at.values, jax.eval_shape(lambda: at.theta)
    return min(max_products, vectors_within(memory, min(values, theta, key=_length), least=1))


def _length(struct) -> int:
    return struct.size


def _check_levels(eps) -> Array:
    levels = jnp.atleast_1d(jnp.asarray(eps))
    if not is_traced(levels) and not bool(jnp.all(levels >= 0)):
        raise ValueError(
            f"Argument `eps` must hold losses of at least 0, but is {eps!r}; give levels of "
            "E|r + J u|^2."
        )
    return levels


@eqx.filter_jit
def _curve(at: Tangent, levels: Array | None, rtol: Array, max_products: int) -> TangentCurve:
    linear = at.linearise()
    residual = at.residual(linear.outputs)
    process = _process(linear, residual, levels, rtol, max_products)
    lower, upper = measures(process, residual @ residual, residual.size)
    largest = jnp.max(lower.nodes)
    return TangentCurve(residual @ residual, lower, upper, process.size, largest)


@eqx.filter_jit
def _radius(curve: TangentCurve, levels: Array) -> Radius:
    upper = jax.vmap(curve.upper.kappa)(levels.reshape(-1))
    lower = jax.vmap(curve.lower.kappa)(levels.reshape(-1))
    return Radius(upper.reshape(levels.shape), lower.reshape(levels.shape))


@eqx.filter_jit
def _move(at: Tangent, levels: Array, rtol: Array, max_products: int) -> Move:
    linear = at.linearise()
    residual = at.residual(linear.outputs)
    process = _process(linear, residual, levels, rtol, max_products)
    lower, _ = measures(process, residual @ residual, residual.size)
    mu = lower.multiplier(levels[0].astype(residual.dtype))
    left, values, right = jnp.linalg.svd(process.square)
    # Where the node counts as 0 nothing moves, as in the minimum-norm solution.
    gains = jnp.where(lower.nodes > 0, left[0] / (lower.nodes + mu), 0)
    gains = jnp.linalg.norm(residual) * gains
    if _in_function_space(residual, at.theta):
        # Without its last row the basis would be copied for the product.
        step = -linear.pull(jnp.pad(left @ gains, (0, 1)) @ process.basis)
    else:
        step = -((values * gains) @ right) @ process.basis
    loss = residual @ residual
    step = jnp.where(levels[0] < loss, step, jnp.where(jnp.isnan(loss), jnp.nan, 0))
    reached = residual + linear.push(step)
    return Move(at.scaled(step), jnp.linalg.norm(step), reached @ reached)


def _in_function_space(residual: Values, theta: Theta) -> bool:
    """Which basis `bidiagonalise` keeps: the shorter one."""
    return residual.size <= theta.size


def _process(
    linear: Linearised, residual: Values, levels: Array | None, rtol: Array, max_products: int
) -> Bidiagonal:
    loss = residual @ residual

    def tight(process: Bidiagonal) -> Bool[Array, ""]:
        lower, upper = measures(process, loss, residual.size)
        if levels is None:
            return upper.floor - lower.floor <= jnp.finfo(loss.dtype).eps * loss
        asked = levels.astype(loss.dtype)
        low, high = jax.vmap(lower.kappa)(asked), jax.vmap(upper.kappa)(asked)
        return jnp.all(jnp.where(jnp.isinf(high), jnp.isinf(low), high - low <= rtol * high))

    def until(process: Bidiagonal) -> Bool[Array, ""]:
        # The test costs two decompositions, as much as a product of a small lift.
        due = process.size % _EVERY == 0
        return jax.lax.cond(due, tight, lambda _: jnp.asarray(False), process)

    return bidiagonalise(linear.push, linear.pull, residual, max_products, until)
