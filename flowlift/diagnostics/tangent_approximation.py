r"""Tangent approximation: how far theta must move, to first order, for the loss to reach eps.

    kappa(eps) = min { |u| : E|r + J u|^2 <= eps },   r = F - f*         (theory, section 5 [paper])

With K = J J^T and the spectral measure of r, dw(l) = sum_i <r, e_i>^2 delta(l - l_i), the ridge
problems min_u |r + J u|^2 + mu |u|^2 have

    residual rho(mu) = int (mu / (l + mu))^2 dw,   kappa^2 = int l / (l + mu)^2 dw,   rho(mu) = eps.

One Lanczos process on K from r gives two discrete measures, Gauss's and Gauss-Radau's with a node
at 0 (Golub & Meurant, Matrices, Moments and Quadrature, 2010, chapter 6), for **all** eps at once.

Both bracket kappa [proved]: by duality kappa^2(eps) = max_mu { <r, (K + mu)^{-1} r> - eps / mu },
and of the completely monotone 1 / (l + mu) the Gauss rule gives a lower bound, the Gauss-Radau
rule an upper one; each rule's kappa is the same maximum for its own measure.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..solvers.lanczos import Krylov, ritz
from ..solvers.spectral import lanczos
from ..tasks import AbstractObjective, Task
from .tangent import Linearised, Tangent, Trainable, Values, is_traced, tangent

MAX_PRODUCTS = 98
_EVERY = 4


class SpectralMeasure(eqx.Module):
    """A discrete measure sum_i w_i delta(l - l_i) on the spectrum of K.

    Attributes:
        nodes: l_i >= 0, (M,).
        weights: w_i >= 0, (M,), with sum |r|^2.
    """

    nodes: Float[Array, " M"]
    weights: Float[Array, " M"]

    @property
    def floor(self) -> Float[Array, ""]:
        """rho(mu -> 0): the weight at 0, the least linearised residual."""
        return jnp.sum(jnp.where(self.nodes > 0, 0, self.weights))

    def residual(self, mu: Float[Array, ""]) -> Float[Array, ""]:
        """rho(mu), increasing in mu."""
        return jnp.sum(self.weights * (mu / (self.nodes + mu)) ** 2)

    def multiplier(self, eps: Float[Array, ""]) -> Float[Array, ""]:
        """mu with rho(mu) = eps, by bisection of log mu to rounding."""
        scale = jnp.maximum(jnp.max(self.nodes), jnp.finfo(self.nodes.dtype).tiny ** 0.5)
        low, high = jnp.log(scale) - 60.0, jnp.log(scale) + 40.0

        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            below = self.residual(jnp.exp(middle)) <= eps
            return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

        return jnp.exp(jax.lax.fori_loop(0, 60, halve, (low, high))[0])

    def kappa(self, eps: Float[Array, ""]) -> Float[Array, ""]:
        """The radius at one level: 0 from |r|^2 on, infinite below the floor."""
        mu = self.multiplier(eps)
        squared = jnp.sum(self.weights * (self.nodes / (self.nodes + mu)) / (self.nodes + mu))
        kappa = jnp.where(eps < jnp.sum(self.weights), jnp.sqrt(squared), 0)
        return jnp.where(eps < self.floor, jnp.inf, kappa)


class Radius(eqx.Module):
    """kappa(eps), bracketed.

    Attributes:
        kappa: the upper bound: some u with |u| <= kappa attains eps. Infinite if none is known.
        lower: no shorter u does. Infinite if no u does at all.
    """

    kappa: Float[Array, "*levels"]
    lower: Float[Array, "*levels"]


class TangentCurve(eqx.Module):
    """kappa(eps) for every eps, from one Lanczos process.

    Attributes:
        loss: L = |r|^2, from where on kappa = 0.
        lower: the Gauss measure.
        upper: the Gauss-Radau measure with a node at 0.
        products: products with K.
        largest: the largest eigenvalue found; those below N x rounding x this one count as 0,
            since products cannot tell them from it.
    """

    loss: Float[Array, ""]
    lower: SpectralMeasure
    upper: SpectralMeasure
    products: Int[Array, ""]
    largest: Float[Array, ""]

    @property
    def gradients(self) -> Int[Array, ""]:
        """Cost in gradients: two for each product, one for r."""
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
    trainable: Trainable = eqx.is_inexact_array,
) -> TangentCurve:
    """The curve eps -> kappa(eps) at a model, with its floor.

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: levels at which the bracket must close; None goes on until the curve is exact or the
            products are spent. The curve can be asked at any level either way.
        rtol: stop when (upper - lower) <= rtol x upper at these levels, or both are infinite.
        max_products: at most so many products with K, 2 gradients each.
        trainable: which leaves are theta.

    Returns:
        The curve. Cost: `gradients`, at most 1 + 2 max_products; memory: one vector of N =
        samples x outputs numbers a product, and that of one gradient.

    Raises:
        ValueError: if the task's loss is not squared, or a level is negative.
    """
    levels = None if eps is None else _check_levels(eps)
    at = tangent(model, task, trainable, squared=True)
    return _curve(at, levels, jnp.asarray(rtol), max_products)


def tangent_radius(
    model: PyTree,
    task: Task | AbstractObjective,
    eps: float,
    *,
    rtol: float = 1e-6,
    max_products: int = MAX_PRODUCTS,
    trainable: Trainable = eqx.is_inexact_array,
) -> Radius:
    """kappa(eps) at one level; see `tangent_curve`.

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: the level.
        rtol: relative width of the bracket.
        max_products: at most so many products with K.
        trainable: which leaves are theta.

    Returns:
        The bracket.

    Raises:
        ValueError: as for `tangent_curve`.
    """
    curve = tangent_curve(
        model, task, eps, rtol=rtol, max_products=max_products, trainable=trainable
    )
    return curve.kappa(eps)


class Move(eqx.Module):
    """The shortest u with E|r + J u|^2 <= eps.

    Attributes:
        step: u, (P,), in the order of theta.
        length: |u|.
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
    trainable: Trainable = eqx.is_inexact_array,
) -> Move:
    """u = -J^T (K + mu)^{-1} r, the step that attains kappa(eps).

    Args:
        model: the model.
        task: a task with samples and squared loss.
        eps: the level, above the floor: below it the best step found is returned, and `residual`
            says so.
        rtol: as for `tangent_curve`.
        max_products: as for `tangent_curve`.
        trainable: which leaves are theta.

    Returns:
        The step. Cost: that of `tangent_curve` and 2 gradients.

    Raises:
        ValueError: as for `tangent_curve`.
    """
    at = tangent(model, task, trainable, squared=True)
    return _move(at, _check_levels(eps), jnp.asarray(rtol), max_products)


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
    krylov = _krylov(linear, residual, levels, rtol, max_products)
    lower, upper = measures(krylov, residual @ residual)
    largest = jnp.max(lower.nodes)
    return TangentCurve(residual @ residual, lower, upper, krylov.size, largest)


@eqx.filter_jit
def _radius(curve: TangentCurve, levels: Array) -> Radius:
    upper = jax.vmap(curve.upper.kappa)(levels.reshape(-1))
    lower = jax.vmap(curve.lower.kappa)(levels.reshape(-1))
    return Radius(upper.reshape(levels.shape), lower.reshape(levels.shape))


@eqx.filter_jit
def _move(at: Tangent, levels: Array, rtol: Array, max_products: int) -> Move:
    linear = at.linearise()
    residual = at.residual(linear.outputs)
    krylov = _krylov(linear, residual, levels, rtol, max_products)
    lower, _ = measures(krylov, residual @ residual)
    mu = lower.multiplier(levels[0].astype(residual.dtype))
    pairs = ritz(krylov)
    # Where the node counts as 0 nothing moves, as in the minimum-norm solution.
    gains = jnp.where(lower.nodes > 0, pairs.coordinates[0] / (lower.nodes + mu), 0)
    inner = jnp.linalg.norm(residual) * (pairs.coordinates @ gains) @ krylov.basis[:-1]
    step = -linear.pull(inner)
    step = jnp.where(levels[0] < residual @ residual, step, 0)
    reached = residual + linear.push(step)
    return Move(step, jnp.linalg.norm(step), reached @ reached)


def _krylov(
    linear: Linearised, residual: Values, levels: Array | None, rtol: Array, max_products: int
) -> Krylov:
    loss = residual @ residual

    def tight(krylov: Krylov) -> Bool[Array, ""]:
        lower, upper = measures(krylov, loss)
        if levels is None:
            return upper.weights[0] <= jnp.finfo(loss.dtype).eps * loss
        asked = levels.astype(loss.dtype)
        low, high = jax.vmap(lower.kappa)(asked), jax.vmap(upper.kappa)(asked)
        return jnp.all(jnp.where(jnp.isinf(high), jnp.isinf(low), high - low <= rtol * high))

    def until(krylov: Krylov) -> Bool[Array, ""]:
        # The test costs two eigh, as much as a product of a small lift.
        due = krylov.size % _EVERY == 0
        return jax.lax.cond(due, tight, lambda _: jnp.asarray(False), krylov)

    return lanczos(linear.kernel, residual, max_products, until)


def measures(krylov: Krylov, mass: Float[Array, ""]) -> tuple[SpectralMeasure, SpectralMeasure]:
    """The Gauss measure and the Gauss-Radau measure with a node at 0.

    Args:
        krylov: a Lanczos process on K >= 0 from some vector.
        mass: that vector's squared norm.

    Returns:
        Both measures, (M,) and (M + 1,), nodes ascending, with zero weights beyond those reached.
    """
    pairs = ritz(krylov)
    inside = jnp.arange(pairs.values.size) < krylov.size
    largest = jnp.max(jnp.where(inside, pairs.values, 0))
    rounding = krylov.basis.shape[1] * jnp.finfo(mass.dtype).eps * largest
    last = jnp.maximum(krylov.size - 1, 0)
    safe = jnp.maximum(jnp.maximum(pairs.values, rounding), jnp.finfo(mass.dtype).tiny)
    inverse = jnp.sum(jnp.where(inside, pairs.coordinates[last] ** 2 / safe, 0))
    # The last diagonal entry that makes the extended T singular (Golub 1973).
    extra = krylov.beta[last] ** 2 * inverse
    alpha = jnp.append(krylov.alpha, 0).at[krylov.size].set(extra)
    extended = Krylov(
        krylov.basis, alpha, jnp.append(krylov.beta, 0), krylov.size + 1, krylov.defect
    )
    radau = ritz(extended)
    values = radau.values.at[0].set(0)
    return (
        _measure(pairs.values, pairs.coordinates[0], inside, mass, rounding),
        _measure(values, radau.coordinates[0], jnp.append(True, inside), mass, rounding),
    )


def _measure(values, first, inside, mass, rounding) -> SpectralMeasure:
    nodes = jnp.where(inside & (values > rounding), values, 0)
    return SpectralMeasure(nodes, jnp.where(inside, mass * first**2, 0))
