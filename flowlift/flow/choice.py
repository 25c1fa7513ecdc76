"""`solver="auto"`: which solver runs, why, and what takes over when it stalls."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from ..protocols import AbstractSmoothness
from ..solvers import generic_vector, live_part, spectral_ends
from ..solvers.host.krylov import Krylov, ritz
from ..solvers.host.krylov import generic_vector as generic
from ..solvers.host.stepping import HostField
from .outcome import Outcome
from .problem import Flat, Problem

# Hessian-vector products spent on the ends of the spectrum at the start.
PRODUCTS = 8
# T x sharpness up to which an explicit method is taken, and what each further digit of rtol
# beyond 1e-3 adds: measured, docs/solvers.md.
_NOT_STIFF = 100.0
_PER_DIGIT = 100.0
# Below this tolerance the explicit method of order 8 is cheaper than that of order 5.
_TIGHT = 1e-8
# A basis of some hundred vectors of this length fills 2 GB.
_LARGE = 2_000_000
# A solver is judged after so many attempts; an explicit one by how many more it would need.
WINDOW = 64
_TOO_MANY = 1_000
# A stiff one makes no progress if doubling the time takes so many attempts, over 1024 of them: a
# sharp transition at a late time takes fewer.
_CRAWLING = 100_000
_EXPLICIT = ("tsit5", "dopri8")
# Tighter than this, kinks make RKC2 reject more steps than its stages save.
_LOOSE = 1e-4
# All that a choice may end with.
CANDIDATES = ("tsit5", "dopri8", "bdf", "rkc2")


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


def choose(
    size: int, horizon: float, rtol: float, ends: tuple[float, float], smooth: bool | None
) -> Automatic:
    """The solver for a flow.

    Args:
        size: number of parameters P.
        horizon: the end T.
        rtol: relative tolerance.
        ends: the least and the largest eigenvalue of the Hessian at the start.
        smooth: whether L is twice differentiable; None: not declared.

    Returns:
        The choice.
    """
    explicit = "dopri8" if rtol < _TIGHT else "tsit5"
    stiff, declared = _for_stiff(size, rtol, smooth)
    last = ("rkc2", "tsit5") if rtol >= _LOOSE else ("tsit5",)
    lowest, sharpness = ends
    stiffness = horizon * max(sharpness, 0.0)
    measured = f"T x sharpness = {stiffness:.2g}, rtol = {rtol:.0e}"
    if lowest < -0.01 * abs(sharpness):
        measured += f", least curvature {lowest:.2g}"
    if not np.isfinite(ends).all():
        order, reason = (explicit,), "the Hessian at the start is not finite"
    elif stiffness <= threshold(rtol):
        order, reason = (explicit, stiff, *last), f"not stiff, {measured}"
    else:
        order, reason = (stiff, *last), f"stiff, {measured}, {declared}"
    first, *rest = dict.fromkeys(order)
    return Automatic((first,), reason, tuple(rest), min(PRODUCTS, size))


def threshold(rtol: float) -> float:
    """T x sharpness up to which explicit methods are cheaper.

    Args:
        rtol: relative tolerance.

    Returns:
        The threshold.
    """
    return _NOT_STIFF + _PER_DIGIT * max(0.0, -np.log10(rtol) - 3)


def _for_stiff(size: int, rtol: float, smooth: bool | None) -> tuple[str, str]:
    """The solver for a stiff flow, and what it was chosen by."""
    if smooth is False:
        return "rkc2" if rtol >= _LOOSE else "tsit5", "not twice differentiable"
    if size > _LARGE:
        return "rkc2", f"{size} parameters"
    return "bdf", "twice differentiable" if smooth else "smoothness not declared"


def spectrum_at_start(problem: Problem) -> tuple[float, float]:
    """The ends of the Hessian's spectrum at theta_0, after `PRODUCTS` Lanczos steps.

    Args:
        problem: the problem.

    Returns:
        The least and the largest Ritz value: inside the spectrum, and the largest close to its end.
    """
    lowest, highest = _ends(problem)
    return float(lowest), float(highest)


def spectrum_on_host(field: HostField, theta: np.ndarray) -> tuple[float, float]:
    """As `spectrum_at_start`, by products that the host calls for.

    Args:
        field: the flow.
        theta: theta_0.

    Returns:
        The least and the largest Ritz value; NaN where products are not finite.
    """
    start = generic(theta.size, theta.dtype)
    start[field.live :] = 0
    with np.errstate(all="ignore"):
        begun = Krylov.empty(min(PRODUCTS, theta.size), theta).restarted(start)
        krylov = begun.grown(lambda v: field.product(theta, v), lambda _: False)
        values = ritz(krylov).values
    return float(values[0]), float(values[-1])


# Without their vectors, which would be compiled as well.
@eqx.filter_jit
def _ends(problem: Problem) -> tuple[Array, Array]:
    theta = problem.start

    def product(vector: Flat) -> Array:
        return jax.jvp(lambda x: problem.value_and_grad(x)[1], (theta,), (vector,))[1]

    # A tolerance of zero: always all products, so that their number needs no reading back.
    start = live_part(generic_vector(theta.size, theta.dtype), problem.live)
    ends = spectral_ends(product, start, rtol=0.0, max_products=PRODUCTS)
    return ends.lowest, ends.highest


def declared_smooth(model: PyTree) -> bool | None:
    """What a model says of its smoothness, None if nothing.

    Args:
        model: any pytree; a `Lift`, or another `flowlift.protocols.AbstractSmoothness`, declares
            it.

    Returns:
        The declaration.
    """
    return model.smooth if isinstance(model, AbstractSmoothness) else None


def stalled(
    name: str,
    result: Outcome | None,
    attempts: int,
    accepted: int,
    more: float,
    doubling: float,
) -> str | None:
    """Whether another solver should take over, after `WINDOW` attempts or at an end.

    An explicit method stalls when stability holds its steps down: then nearly all are accepted,
    and the number still needed is the time left over the step. Others stall when most steps are
    rejected, when they are accepted but so short that time hardly grows, or give up. An explicit
    flow that explodes is a result, and nobody else is tried.

    Args:
        name: the solver that runs.
        result: how the flow ended, None if it goes on.
        attempts: attempted steps lately.
        accepted: those of them that were accepted.
        more: the time left over the next step.
        doubling: attempts that doubling the time would take at the measured pace, see
            `flowlift.solvers.pace.Pace`.

    Returns:
        Why, or None.
    """
    if name in _EXPLICIT:
        slow = result is None and attempts >= WINDOW and more > _TOO_MANY
        return f"would have needed {more:.2g} more steps" if slow else None
    if result in (Outcome.TIME_UNDERFLOW, Outcome.NO_PROGRESS, Outcome.SOLVER_FAILURE):
        return f"ended by {str(result)!r}"
    if result is None and attempts >= WINDOW and 2 * accepted < attempts:
        return f"stalled, {attempts - accepted} of {attempts} steps rejected"
    if result is None and doubling > _CRAWLING:
        return f"would have needed {doubling:.2g} more steps to double the time"
    return None
