"""The equation of an implicit step, u = c f(u) + ..., by chord iteration that learns as it goes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .curvature import Curvature
from .lanczos import Vector

MAX_ITERATIONS = 8
MAX_CG = 40
# The iteration is given up when it does not contract by at least this.
SLOW = 0.9
# One good step is no proof of fast contraction: a rate falls by at most this factor a step.
FALL = 0.3
# What conjugate gradients leave of a correction: their residual is taken for this part of it.
LEFT = 0.05
# They end at this part of the tolerance, or at that of the first correction if it is larger.
CG_TOLERANCE = 0.3
CG_RELATIVE = 0.02


class Equation(eqx.Module):
    """d = c f(prediction + d) - psi, for the whole vector; f depends on its first n components.

    Attributes:
        prediction: (N,).
        psi: (N,).
        c: h / alpha.
        weights: (n,); a correction is measured by the root mean square of its ratio to them.
        tolerance: largest error of d in that measure.
        floor: corrections below it are rounding errors.
    """

    prediction: Float[Array, " N"]
    psi: Float[Array, " N"]
    c: Float[Array, ""]
    weights: Vector
    tolerance: Float[Array, ""]
    floor: Float[Array, ""]

    def norm(self, vector: Vector) -> Float[Array, ""]:
        """Root mean square of v / weights."""
        return jnp.sqrt(jnp.mean((vector / self.weights) ** 2))


class Iteration(eqx.Module):
    """A state of the iteration, and its result.

    Attributes:
        correction: d (N,).
        curvature: the model of H.
        step: the last correction of d, its coupled part (n,).
        force: the coupled part of f before that step.
        size: norm of the last step; infinite if it, or the field before it, was not finite.
        rate: estimate of the contraction; 1 where unknown.
        evaluations: evaluations of f.
        products: Hessian-vector products.
        converged: whether d is accurate.
        failed: whether the iteration was given up.
    """

    correction: Float[Array, " N"]
    curvature: Curvature
    step: Vector
    force: Vector
    size: Float[Array, ""]
    rate: Float[Array, ""]
    evaluations: Int[Array, ""]
    products: Int[Array, ""]
    converged: Bool[Array, ""]
    failed: Bool[Array, ""]


def solve(
    equation: Equation,
    field: Callable[[Array], Array],
    product: Callable[[Array, Vector], Vector],
    curvature: Curvature,
    rate: Float[Array, ""],
) -> Iteration:
    """Chord iteration d <- d + (I + c B)^-1 (c f - psi - d), B taught by each step's gradients.

    Where the Lanczos basis is full and does not know enough (flat spectra), steps after the first
    come from conjugate gradients with H at the iterate, preconditioned by the same inverse.

    Args:
        equation: what is solved.
        field: f on vectors (N,).
        product: (vector (N,), v) -> H v.
        curvature: B.
        rate: contraction of earlier solves with the same B; 1 where unknown.

    Returns:
        The last state.
    """
    n = equation.weights.size
    finish = curvature.full & ~curvature.knows(equation.c)

    def goes_on(now: Iteration):
        return ~now.converged & ~now.failed & (now.evaluations < MAX_ITERATIONS)

    def iterate(now: Iteration) -> Iteration:
        point = equation.prediction + now.correction
        rates = field(point)
        force, again = rates[:n], now.evaluations > 0
        model = now.curvature.taught(now.step, now.force - force, equation.c, again)
        target = equation.c * rates - equation.psi
        residual = target[:n] - now.correction[:n]
        step, products = _conjugate_gradients(
            lambda v: v + equation.c * product(point, v),
            lambda v: model.inverse(equation.c, v),
            residual,
            equation,
            jnp.where(finish & again, MAX_CG, 0),
        )
        size = equation.norm(step)
        rate, small, failed = _verdict(equation, now, size, residual, force, finish)
        finite = jnp.isfinite(size) & jnp.isfinite(rates).all()
        failed |= ~finite
        correction = jnp.concatenate([now.correction[:n] + step, target[n:]])
        return Iteration(
            jnp.where(failed, now.correction, correction),
            model,
            step,
            force,
            jnp.where(finite, size, jnp.inf),
            rate,
            now.evaluations + 1,
            now.products + products,
            finite & small,
            failed,
        )

    first = start(equation, curvature, rate, jnp.zeros_like(equation.weights))
    return jax.lax.while_loop(goes_on, iterate, first)


def start(
    equation: Equation, curvature: Curvature, rate: Float[Array, ""], step: Vector
) -> Iteration:
    """The state before the first iteration.

    Args:
        equation: what is solved.
        curvature: B.
        rate: contraction of earlier solves; 1 where unknown.
        step: a direction that matters, for a fresh basis.

    Returns:
        The state.
    """
    zero, no = jnp.zeros((), int), jnp.asarray(False)
    return Iteration(
        correction=jnp.zeros_like(equation.prediction),
        curvature=curvature,
        step=step,
        force=jnp.zeros_like(equation.weights),
        size=jnp.ones_like(equation.c),
        rate=rate,
        evaluations=zero,
        products=zero,
        converged=no,
        failed=no,
    )


def _verdict(equation: Equation, now: Iteration, size, residual, force, finish):
    """The contraction with a new step of this size; whether it was the last, or in vain.

    A small step alone proves nothing: where B holds far more curvature than H, every step is small
    and leaves the residual as it was.

    Args:
        equation: what is solved.
        now: the state before the step.
        size: norm of the step.
        residual: c f - psi - d before it.
        force: the coupled part of f there.
        finish: whether steps after the first come from conjugate gradients.

    Returns:
        The contraction; whether the iteration has converged; whether it is given up.
    """
    ratio, again, left = size / now.size, now.evaluations > 0, equation.norm(residual)
    # The first conjugate gradients follow a chord step, and are not comparable to it.
    comparable = jnp.where(finish, now.evaluations > 1, again)
    measured = jnp.where(finish, ratio, jnp.maximum(ratio, FALL * now.rate))
    measured = jnp.where(now.rate < 1, measured, ratio)
    rate = jnp.where(comparable, measured, now.rate)
    # What all Ritz values together cannot have suppressed is believed after a second look only.
    stiffest = 1 + equation.c * jnp.max(now.curvature.values)
    explained = again | (left <= 2 * stiffest * size + equation.tolerance)
    small = (rate < 1) & (rate * size < (1 - rate) * equation.tolerance) & explained
    small |= finish & again & (LEFT * size < equation.tolerance)
    small |= again & (size <= equation.floor) & (ratio < SLOW)
    # By so much the step before has reduced the residual: (I + c H) of that step.
    undone = now.step + equation.c * (now.force - force)
    idle = equation.norm(undone) < (1 - SLOW) * equation.norm(residual + undone)
    # Rounding shows in the residual itself.
    resolved = left <= equation.floor
    small = resolved | (small & ~(again & idle))
    return rate, small, comparable & ((ratio >= SLOW) | idle) & ~small


def _conjugate_gradients(operator, inverse, residual: Vector, equation: Equation, limit):
    """Preconditioned conjugate gradients, stopped on negative curvature; (solution, products).

    Without any product it is the chord step.

    Args:
        operator: v -> (I + c H) v.
        inverse: the preconditioner.
        residual: the right-hand side.
        equation: the norm and the tolerance.
        limit: most products.

    Returns:
        The solution, and the number of products.
    """

    def goes_on(now):
        _, _, z, _, _, count, stopped = now
        size = equation.norm(z)
        enough = size < jnp.maximum(CG_TOLERANCE * equation.tolerance, CG_RELATIVE * first)
        return ~stopped & ~enough & (count < limit)

    def iterate(now):
        x, r, z, p, rz, count, _ = now
        image = operator(p)
        curved = p @ image
        good = (curved > 0) & jnp.isfinite(curved)
        a = jnp.where(good, rz / curved, 0.0)
        x, r = x + a * p, r - a * jnp.where(good, image, 0.0)
        z = inverse(r)
        rz_new = r @ z
        return x, r, z, z + rz_new / rz * p, rz_new, count + 1, ~good

    chord = inverse(residual)
    first, zero = equation.norm(chord), jnp.zeros((), int)
    begin = (
        jnp.zeros_like(residual),
        residual,
        chord,
        chord,
        residual @ chord,
        zero,
        jnp.asarray(False),
    )
    x, _, _, _, _, count, _ = jax.lax.while_loop(goes_on, iterate, begin)
    return jnp.where(jnp.any(x != 0), x, chord), count
