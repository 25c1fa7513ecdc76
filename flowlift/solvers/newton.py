"""The equation of an implicit step, u = c f(u) + ..., by chord iteration that learns as it goes."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .curvature import Curvature
from .equation import Equation
from .lanczos import Vector
from .lanes import where_any
from .learner import Learner

MAX_ITERATIONS = 8
MAX_CG = 40
# The iteration is given up when it does not contract by at least this.
SLOW = 0.9
# A chord iteration slower than this takes more evaluations than conjugate gradients are worth.
CHORD_SLOW = 0.8
# One good step is no proof of fast contraction: a rate falls by at most this factor a step.
FALL = 0.3
# They end at this part of the tolerance, or of the solution so far if that is larger: the first
# correction may be far larger than the solution, where B is out of date. What is left costs a
# gradient with what B has learnt, a product of more digits two.
CG_TOLERANCE = 0.3
CG_RELATIVE = 0.2
# So much of their step is taken to be left after them.
LEFT = CG_RELATIVE


class Iteration(eqx.Module):
    """A state of the iteration, and its result.

    Attributes:
        correction: d (N,).
        curvature: the model of H.
        step: the last correction of d, its coupled part (n,).
        force: the coupled part of f before that step.
        size: norm of the last step; infinite if it, or the field before it, was not finite.
        rate: estimate of the chord iteration's contraction; 1 where unknown.
        conjugate: whether the last step is one of conjugate gradients.
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
    conjugate: Bool[Array, ""]
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
    fresh: Bool[Array, ""],
) -> Iteration:
    """Chord iteration d <- d + (I + c B)^-1 (c f - psi - d), B taught by each step's gradients.

    Where it is slow, a step comes from conjugate gradients with H at the iterate, preconditioned by
    the same inverse: a basis that is out of date in some directions serves on for as many products
    as a new one takes. Then, or where H + I / c is indefinite, it is left to fail. Their products
    teach B too, so that the chord iteration goes on after them; only where the basis is full, and
    B cannot hold what is stiff, all further steps are theirs.

    Args:
        equation: what is solved.
        field: f on vectors (N,).
        product: (vector (N,), v) -> H v.
        curvature: B.
        rate: contraction of earlier solves with the same B; 1 where unknown.
        fresh: whether B was made for this step.

    Returns:
        The last state.
    """
    n, begun = equation.weights.size, Learner.of(curvature, equation.c)
    stale = ~fresh & (rate > CHORD_SLOW)

    def goes_on(now: Iteration):
        return ~now.converged & ~now.failed & (now.evaluations < MAX_ITERATIONS)

    def iterate(now: Iteration) -> Iteration:
        point = equation.prediction + now.correction
        rates = field(point)
        (force, target), again = equation.asked(point, rates), now.evaluations > 0
        model = dataclasses.replace(begun, curvature=now.curvature)
        model = model.taught(now.step, now.force - force, again)
        residual = target[:n] - now.correction[:n]
        hessian = lambda v: product(point, v)
        step, conjugate, learnt, products, indefinite = _step(
            equation, hessian, model, now, residual, stale
        )
        size = equation.norm(step)
        rate, small, failed = _verdict(equation, now, size, residual, force, conjugate)
        finite = jnp.isfinite(size) & jnp.isfinite(rates).all()
        failed |= ~finite | (indefinite & ~small)
        correction = equation.whole(now.correction[:n] + step, target)
        return Iteration(
            jnp.where(failed, now.correction, correction),
            learnt.curvature,
            step,
            force,
            jnp.where(finite, size, jnp.inf),
            rate,
            conjugate,
            now.evaluations + 1,
            now.products + products,
            finite & small,
            failed,
        )

    first = start(equation, begun.curvature, rate, jnp.zeros_like(equation.weights))
    last = jax.lax.while_loop(goes_on, iterate, first)
    return eqx.tree_at(lambda i: i.curvature.spent, last, curvature.spent + last.products)


def _step(equation: Equation, hessian, model: Learner, now: Iteration, residual, stale):
    """The next step, of the chord iteration or by conjugate gradients.

    Args:
        equation: what is solved.
        hessian: v -> H v at the iterate.
        model: B; what conjugate gradients have spent is that before this solve.
        now: the state before the step.
        residual: c f - psi - d.
        stale: whether the chord iteration has shown before that it is slow.

    Returns:
        The step, whether it is one of conjugate gradients, B with what it has learnt, its products,
        whether they met negative curvature.
    """
    chord = model.inverse(residual)
    slow = _slow(equation, now, chord, residual, stale)
    b = model.curvature
    conjugate = (now.conjugate & b.wanting) | (b.affordable & slow)
    most, none = jnp.where(conjugate, MAX_CG, 0), (jnp.zeros((), int), jnp.asarray(False))
    run = lambda: _conjugate_gradients(equation, hessian, model, residual, chord, most)
    found = where_any(conjugate, run, (chord, model, *none))
    return found[0], conjugate, *found[1:]


def _slow(equation: Equation, now: Iteration, chord: Vector, residual: Vector, stale):
    """Whether the chord iteration shows, or has shown, that it will not do."""
    size = equation.norm(chord)
    # A first step too long for the whole correction follows a direction that B does not know.
    shown = jnp.where(now.evaluations > 0, size / now.size > CHORD_SLOW, size > equation.expected)
    nearly = now.rate * size < (1 - now.rate) * equation.tolerance
    # What is not finite, and what is only rounding, is not worth a product.
    worth = jnp.isfinite(size) & (equation.norm(residual) > equation.floor)
    return worth & (shown | (stale & ~nearly))


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
        correction=equation.whole(
            jnp.zeros_like(equation.weights), jnp.zeros_like(equation.prediction)
        ),
        curvature=curvature,
        step=step,
        force=jnp.zeros_like(equation.weights),
        size=jnp.ones_like(equation.c),
        rate=rate,
        conjugate=no,
        evaluations=zero,
        products=zero,
        converged=no,
        failed=no,
    )


def _verdict(equation: Equation, now: Iteration, size, residual, force, conjugate):
    """The contraction with a new step of this size; whether it was the last, or in vain.

    A small step alone proves nothing: where B holds far more curvature than H, every step is small
    and leaves the residual as it was.

    Args:
        equation: what is solved.
        now: the state before the step.
        size: norm of the step.
        residual: c f - psi - d before it.
        force: the coupled part of f there.
        conjugate: whether the step is one of conjugate gradients.

    Returns:
        The contraction of chord steps, 1 (unknown) after another; whether the iteration has
        converged; whether it is given up.
    """
    ratio, again, left = size / now.size, now.evaluations > 0, equation.norm(residual)
    # Steps of two kinds say nothing about either.
    comparable = again & (now.conjugate == conjugate)
    measured = jnp.where(now.rate < 1, jnp.maximum(ratio, FALL * now.rate), ratio)
    chord_rate = jnp.where(comparable, measured, now.rate)
    rate = jnp.where(conjugate, jnp.where(comparable, ratio, 1.0), chord_rate)
    # What all Ritz values together cannot have suppressed is believed after a second look only.
    stiffest = 1 + equation.c * jnp.max(now.curvature.values)
    explained = again | (left <= 2 * stiffest * size + equation.tolerance)
    small = (rate < 1) & (rate * size < (1 - rate) * equation.tolerance) & explained
    small |= conjugate & again & (LEFT * size < equation.tolerance)
    small |= again & (size <= equation.floor) & (ratio < SLOW)
    # By so much the step before has reduced the residual: (I + c H) of that step.
    undone = now.step + equation.c * (now.force - force)
    idle = equation.norm(undone) < (1 - SLOW) * equation.norm(residual + undone)
    # Rounding shows in the residual itself.
    resolved = left <= equation.floor
    small = resolved | (small & ~(again & idle))
    failed = comparable & ((ratio >= SLOW) | idle) & ~small
    return jnp.where(conjugate, 1.0, chord_rate), small, failed


def _conjugate_gradients(
    equation: Equation, hessian, model: Learner, residual: Vector, chord: Vector, limit
):
    """Conjugate gradients for I + c H, preconditioned, stopped on negative curvature.

    Args:
        equation: the norm, c, and the tolerance.
        hessian: v -> H v.
        model: B; the preconditioner is I + c B as it is at the beginning.
        residual: the right-hand side.
        chord: its inverse, the solution where no product is made or none is of use.
        limit: most products.

    Returns:
        The solution, B taught by every product, the number of products, whether negative curvature
        was met.
    """

    def goes_on(now):
        x, _, z, _, _, _, count, stopped = now
        size = equation.norm(z)
        least = CG_TOLERANCE * equation.tolerance
        enough = size < jnp.maximum(least, CG_RELATIVE * equation.norm(x))
        return ~stopped & ~enough & (count < limit)

    def iterate(now):
        x, r, _, p, rz, learnt, count, _ = now
        curvature = hessian(p)
        image = p + equation.c * curvature
        curved = p @ image
        good = (curved > 0) & jnp.isfinite(curved)
        a = jnp.where(good, rz / curved, 0.0)
        x, r = x + a * p, r - a * jnp.where(good, image, 0.0)
        z = model.inverse(r)
        rz_new = r @ z
        learnt = learnt.taught(p, curvature, jnp.asarray(True))
        return x, r, z, z + rz_new / rz * p, rz_new, learnt, count + 1, ~good

    zero, no = jnp.zeros((), int), jnp.asarray(False)
    begin = (jnp.zeros_like(residual), residual, chord, chord, residual @ chord, model, zero, no)
    x, _, _, _, _, learnt, count, indefinite = jax.lax.while_loop(goes_on, iterate, begin)
    return jnp.where(jnp.any(x != 0), x, chord), learnt, count, indefinite
