"""After an attempt of the BDF: whether it counts, and the next step and order."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .differences import MAX_ORDER, Differences, error_constant
from .equation import Equation
from .lanczos import Vector
from .newton import MAX_ITERATIONS, Iteration
from .proposals import Proposal

MAX_FACTOR = 10.0
MIN_FACTOR = 0.2
SAFETY = 0.9
# The next step divided by a rejected one: at most, and where the iteration failed.
BACK, BACK_IF_FAILED = 0.9, 0.5
# Errors below this are equal: they ask for the longest step.
LEAST_ERROR = 1e-10
# A prediction lies beside the valley that the flow follows, by an error of order h^(k + 1). Where
# that makes an eigenvalue of c H less than this, negative, the next step is shorter: conjugate
# gradients fail where I + c H is indefinite, and a basis takes many more products there.
CONVEX = 0.5
# Oscillations with eigenvalues -g / 2 +- i w: from this g h / 2 on a formula damps all of them,
# beyond the least real part of its locus of stability: -0.320, -1.203, -2.327 for orders 3 to 5.
DAMPED = {3: 0.33, 4: 1.25, 5: 2.4}
# The fastest oscillation, in w h, that error control follows: what grows there is seen. With 1
# instead, a heavy ball with g = 0.1 on A_tanh takes more than ten times as many evaluations.
RESOLVED = 0.5


def judge(
    order: Int[Array, ""],
    equal: Int[Array, ""],
    differences: Differences,
    attempt: Iteration,
    weights: Vector,
) -> tuple[Proposal, Int[Array, ""]]:
    """Whether to accept, the ratio of the next step to this one, and the next order.

    Args:
        order: k of this step.
        equal: steps in a row before it with this h and k.
        differences: after it, (8, N).
        attempt: its iteration.
        weights: the error that is allowed of each coupled component, (n,).

    Returns:
        The proposal and the order.
    """
    n, dtype = weights.size, weights.dtype

    def error(order, row):
        scaled = error_constant(order, dtype) * differences[row, :n] / weights
        return jnp.sqrt(jnp.mean(scaled**2))

    k = order
    error_now = error_constant(k, dtype) * attempt.correction[:n] / weights
    error_now = jnp.sqrt(jnp.mean(error_now**2))
    below = jnp.where(k > 1, error(k - 1, k), jnp.inf)
    above = jnp.where(k < MAX_ORDER, error(jnp.minimum(k + 1, MAX_ORDER), k + 2), jnp.inf)
    errors = jnp.stack([below, error_now, above])
    orders = (k + jnp.arange(3)).astype(dtype)
    factors = jnp.maximum(errors, LEAST_ERROR) ** (-1 / orders)
    spent = attempt.evaluations.astype(dtype)
    safety = SAFETY * (2 * MAX_ITERATIONS + 1) / (2 * MAX_ITERATIONS + spent)
    ready = equal + 1 >= k + 1
    best = jnp.argmax(factors)
    onward = jnp.where(ready, jnp.minimum(MAX_FACTOR, safety * factors[best]), 1.0)
    back = jnp.where(
        attempt.converged,
        jnp.maximum(MIN_FACTOR, jnp.minimum(BACK, safety * factors[1])),
        BACK_IF_FAILED,
    )
    accepted = attempt.converged & (error_now <= 1)
    finite = jnp.isfinite(attempt.size)
    verdict = jnp.where(attempt.converged, error_now, 2.0)
    verdict = jnp.where(finite, verdict, jnp.inf)
    proposal = Proposal(verdict, jnp.where(accepted, onward, back))
    return proposal, jnp.where(ready, k + best - 1, k)


def longest(order: Int[Array, ""], equation: Equation, attempt: Iteration) -> Float[Array, ""]:
    """The next step divided by this one, at most, for I + c H to be definite where it begins.

    Args:
        order: k of this step.
        equation: what was solved.
        attempt: its iteration, with curvature of this step.

    Returns:
        The ratio.
    """
    lowest = equation.c * jnp.min(attempt.curvature.values)
    ratio = (CONVEX / jnp.maximum(-lowest, CONVEX)) ** (1 / (order + 2).astype(lowest.dtype))
    return jnp.where(lowest < -CONVEX, jnp.maximum(BACK_IF_FAILED, ratio), jnp.inf)


def steady(
    order: Int[Array, ""],
    before: Int[Array, ""],
    curvature: Float[Array, ""],
    step: Float[Array, ""],
    friction: Float[Array, ""],
) -> Int[Array, ""]:
    """The next order of a flow with a velocity, lowered where its formula would be unstable.

    Formulas of order 3 and more let weakly damped oscillations grow that a step does not resolve.

    Args:
        order: the order that is wanted.
        before: that of this step.
        curvature: the largest of what is known of H.
        step: the next step h.
        friction: g.

    Returns:
        The order, one below this step's at the least.
    """
    damping = friction * step / 2
    least = jnp.array(list(DAMPED.values()), damping.dtype)
    most = min(DAMPED) - 1 + jnp.sum(damping > least)
    lowered = jnp.where(order <= most, order, jnp.maximum(most, before - 1))
    resolved = step * jnp.sqrt(jnp.maximum(curvature, 0)) < RESOLVED
    return jnp.where(resolved, order, lowered)
