"""`solver="auto"`: which solver runs, why, and what takes over when it stalls."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..solvers import Lanczos, random_like
from .methods import SOLVERS
from .outcome import Outcome
from .problem import Flat, Problem

# Hessian-vector products spent on the largest eigenvalue at the start.
PRODUCTS = 8
# An explicit method of order 5 takes about 2 T lambda_max gradients, the stiff one some dozens of
# products before it knows the Hessian: where they meet is an estimate, not a measurement.
_NOT_STIFF = 30.0
# A basis of some hundred vectors of this length fills 2 GB.
_LARGE = 2_000_000
_EXPLICIT = ("tsit5",)
_STIFF = ("bdf",)
_ROUGH = ("rkc2", "tsit5")


@dataclasses.dataclass(frozen=True)
class Automatic:
    """An automatic choice: said in the solution, and changed when the solver stalls.

    Attributes:
        names: the solver that runs now, last, after those that it took over from.
        reason: why the first was chosen, and why others took over.
        fallbacks: the solvers that may still take over.
        products: Hessian-vector products that the choice has cost.
    """

    names: tuple[str, ...]
    reason: str
    fallbacks: tuple[str, ...]
    products: int

    @property
    def text(self) -> str:
        """The solvers that ran, and why."""
        return f"{', then '.join(self.names)} (auto: {self.reason})"

    def after(self, why: str) -> "Automatic":
        """The choice after a solver gave up.

        Args:
            why: what happened to it.

        Returns:
            The new choice.
        """
        name, *rest = self.fallbacks
        reason = f"{self.reason}; {self.names[-1]} {why}"
        return Automatic((*self.names, name), reason, tuple(rest), self.products)


def choose(problem: Problem, horizon: float, sharpness: float, smooth: bool | None) -> Automatic:
    """The solver for a flow.

    Args:
        problem: the problem.
        horizon: the end T.
        sharpness: largest eigenvalue of the Hessian at the start, by Lanczos.
        smooth: whether L is twice differentiable; None: not declared.

    Returns:
        The choice.
    """
    size = problem.start.size
    stiffness = horizon * max(sharpness, 0.0)
    measured = f"T x sharpness = {stiffness:.2g}"
    if not np.isfinite(stiffness):
        names, reason = _EXPLICIT, "the Hessian at the start is not finite"
    elif stiffness <= _NOT_STIFF:
        names, reason = _EXPLICIT, f"not stiff, {measured}"
    elif smooth is False:
        names, reason = _ROUGH, f"not twice differentiable, {measured}"
    elif size > _LARGE:
        names, reason = _ROUGH, f"{size} parameters, {measured}"
    else:
        declared = "twice differentiable" if smooth else "smoothness not declared"
        names, reason = _STIFF, f"stiff, {measured}, {declared}"
    order = [name for name in dict.fromkeys((*names, *_ROUGH)) if name in SOLVERS]
    return Automatic((order[0],), reason, tuple(order[1:]), min(PRODUCTS, size))


def sharpness_at_start(problem: Problem) -> Float[Array, ""]:
    """The largest Ritz value of the Hessian at theta_0, after `PRODUCTS` Lanczos steps.

    Args:
        problem: the problem.

    Returns:
        A lower bound of the largest eigenvalue, close to it.
    """
    return _sharpness(problem)


@eqx.filter_jit
def _sharpness(problem: Problem):
    theta = problem.start

    def product(vector: Flat) -> Flat:
        return jax.jvp(lambda x: problem.value_and_grad(x)[1], (theta,), (vector,))[1]

    steps = min(PRODUCTS, theta.size)
    basis = Lanczos.empty(steps, theta).restarted(random_like(0, theta))
    basis = jax.lax.fori_loop(0, steps, lambda _, b: b.extended(product), basis)
    return jnp.max(basis.ritz()[0])


def declared_smooth(model: PyTree) -> bool | None:
    """What a model says of its smoothness, None if nothing.

    Args:
        model: any pytree; a `Lift` declares it.

    Returns:
        The declaration.
    """
    smooth = getattr(model, "smooth", None)
    return smooth if isinstance(smooth, bool) else None


def stalled(result: Outcome | None, attempts: int, accepted: int, limit: int) -> str | None:
    """Whether another solver should take over after a leg.

    Args:
        result: how the leg ended, None if the flow goes on.
        attempts: attempted steps in this leg.
        accepted: accepted steps in this leg.
        limit: attempts that a leg may take.

    Returns:
        Why, or None.
    """
    if result in (Outcome.TIME_UNDERFLOW, Outcome.SOLVER_FAILURE):
        return f"ended by {str(result)!r}"
    if attempts >= limit and 2 * accepted < attempts:
        return f"stalled, {attempts - accepted} of {attempts} steps rejected"
    return None
