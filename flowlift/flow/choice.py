"""`solver="auto"`: which solver runs, why, and what takes over when it stalls."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import PyTree

from ..memory import in_gigabytes
from ..protocols import AbstractSmoothness
from ..solvers.room import KEPT, bdf_worth_while
from ..tasks.added import Penalised
from .dynamics.base import AbstractDynamics
from .sharpness import Ends

# T x sharpness up to which an explicit method is taken, and what each further digit of rtol
# beyond 1e-3 adds: measured, docs/solvers.md.
_NOT_STIFF = 50.0
_PER_DIGIT = 20.0
# The same where L has kinks, ten times as much for each digit: they hold down every solver, and
# cost an explicit one the least.
_KINKED = 400.0
# Below this tolerance the explicit method of order 8 is cheaper than that of order 5.
_TIGHT = 1e-8
EXPLICIT = ("tsit5", "dopri8")
STABILISED = "rkc2"
# Tighter than this, kinks make RKC2 reject more steps than its stages save.
_LOOSE = 1e-4
# Gradients that stability costs an explicit method for each unit of time x sharpness: six in a step
# of at most 3.3 / sharpness.
EXPLICIT_COST = 1.8
# All that a choice may end with.
CANDIDATES = (*EXPLICIT, "bdf", STABILISED)


@dataclasses.dataclass(frozen=True)
class Automatic:
    """An automatic choice: said in the solution, and changed when the solver stalls.

    Attributes:
        names: the solver that runs now, last, after those that it took over from.
        reason: why the first was chosen, and why others took over.
        fallbacks: the solvers that may still take over.
        products: Hessian-vector products that the choice has cost.
        limit: time left x sharpness, or the stiffness that a dynamics has instead, up to which an
            explicit method is cheaper.
        left: the explicit solver that a stiff one took over from, or was preferred to, if there is
            a way back to it: its name, what a unit of time costs it, t then, and the cost of the
            flow until then, in gradients + 2 products.
    """

    names: tuple[str, ...]
    reason: str
    fallbacks: tuple[str, ...]
    products: int
    limit: float
    left: tuple[str, float, float, float] | None = None

    @property
    def open(self) -> bool:
        """Whether another solver may still take over."""
        return bool(self.fallbacks or self.left)

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
        # Where a stiff solver stalled, the next of the list is next, and no other.
        left = self.left if self.names[-1] in EXPLICIT else None
        return dataclasses.replace(self._told(why, name), fallbacks=tuple(rest), left=left)

    def back(self, why: str, limit: float) -> "Automatic":
        """The choice once the explicit solver that was left takes its flow back.

        Args:
            why: what the stiff one cost.
            limit: the new limit of time left x sharpness.

        Returns:
            The new choice. If a sharpness is met later the next of the list takes over, so that
            there are no more ways back than solvers in it.
        """
        assert self.left is not None
        return dataclasses.replace(self._told(why, self.left[0]), left=None, limit=limit)

    def _told(self, why: str, name: str) -> "Automatic":
        reason = f"{self.reason}; {self.names[-1]} {why}"
        return dataclasses.replace(self, names=(*self.names, name), reason=reason)


def choose(
    size: int, horizon: float, rtol: float, ends: Ends, smooth: bool | None, itemsize: int = 8
) -> Automatic:
    """The solver for a flow.

    Args:
        size: number of parameters P.
        horizon: the end T.
        rtol: relative tolerance.
        ends: the ends of the Hessian's spectrum at the start.
        smooth: whether L is twice differentiable; None: not declared.
        itemsize: bytes of a number.

    Returns:
        The choice.
    """
    explicit = "dopri8" if rtol < _TIGHT else "tsit5"
    stiff, declared = _for_stiff(size, itemsize, rtol, smooth)
    last = ("rkc2", "tsit5") if rtol >= _LOOSE else ("tsit5",)
    lowest, sharpness, products = ends
    stiffness, limit = horizon * max(sharpness, 0.0), threshold(rtol, smooth)
    # A Ritz value is a lower bound, and products end where it decides.
    measured = f"T x sharpness at least {stiffness:.2g}, rtol = {rtol:.0e}"
    if lowest < -0.01 * abs(sharpness):
        measured += f", least curvature {lowest:.2g}"
    if not np.isfinite([lowest, sharpness]).all():
        order, reason = (explicit,), "the Hessian at the start is not finite"
    elif stiffness <= limit:
        order, reason = (explicit, stiff, *last), f"not stiff, {measured}"
    else:
        order, reason = (stiff, *last), f"stiff, {measured}, {declared}"
    first, *rest = dict.fromkeys(order)
    left = _doubted(first, smooth, explicit, sharpness)
    return Automatic((first,), reason, tuple(rest), products, limit, left)


def choose_among(
    dynamics: AbstractDynamics,
    served: Sequence[str],
    size: int,
    horizon: float,
    rtol: float,
    ends: Ends | None,
    smooth: bool | None,
    itemsize: int = 8,
) -> Automatic:
    """The solver for a flow that is not the plain one, and those that may take over.

    Those are the explicit ones and what serves the dynamics: where nothing else does, no other.

    Args:
        dynamics: how theta moves.
        served: the implicit and stabilised solvers that serve it.
        size: number of parameters P.
        horizon: the end T.
        rtol: relative tolerance.
        ends: the ends of the spectrum of -dF/dtheta at the start; None where nothing is served.
        smooth: whether L is twice differentiable; None: not declared.
        itemsize: bytes of a number.

    Returns:
        The choice.
    """
    explicit = "dopri8" if rtol < _TIGHT else "tsit5"
    limit, products = threshold(rtol, smooth), 0 if ends is None else ends.products
    stiff, declared = _for_stiff(size, itemsize, rtol, smooth)
    last = ("rkc2", "tsit5") if rtol >= _LOOSE else ("tsit5",)
    later = [name for name in (stiff, *last) if name in served or name in EXPLICIT]
    if ends is None or stiff not in served:
        reason = f"the only kind that serves {dynamics.title} here"
        return Automatic((explicit,), reason, (), products, limit)
    stiffness = dynamics.stiffness(horizon, max(ends.highest, 0.0))
    measured = f"stiffness of {dynamics.title} at least {stiffness:.2g}, rtol = {rtol:.0e}"
    if np.isfinite(stiffness) and stiffness <= limit:
        order, reason, left = (explicit, *later), f"not stiff, {measured}", None
    else:
        order, reason = (*later,), f"stiff, {measured}, {declared}"
        # Of second order an explicit method pays for kinks too: its pace is not known beforehand.
        known = not dynamics.second_order
        left = _doubted(stiff, smooth, explicit, stiffness / horizon) if known else None
    first, *rest = dict.fromkeys(order)
    return Automatic((first,), reason, tuple(rest), products, limit, left)


def _doubted(
    first: str, smooth: bool | None, explicit: str, sharpness: float
) -> tuple[str, float, float, float] | None:
    """The way back where no smoothness is declared: a BDF may meet kinks, dear for it alone."""
    doubtful = first == "bdf" and smooth is None
    return (explicit, EXPLICIT_COST * sharpness, 0.0, 0.0) if doubtful else None


def threshold(rtol: float, smooth: bool | None) -> float:
    """T x sharpness up to which explicit methods are cheaper.

    Args:
        rtol: relative tolerance.
        smooth: whether L is twice differentiable; None: not declared.

    Returns:
        The threshold.
    """
    digits = float(-np.log10(rtol)) - 3
    return _KINKED * 10**digits if smooth is False else _NOT_STIFF + _PER_DIGIT * max(0.0, digits)


def _for_stiff(size: int, itemsize: int, rtol: float, smooth: bool | None) -> tuple[str, str]:
    """The solver for a stiff flow, and what it was chosen by."""
    if smooth is False:
        return "rkc2" if rtol >= _LOOSE else "tsit5", "not twice differentiable"
    if not bdf_worth_while(size, itemsize):
        return "rkc2", f"{size} parameters, too many for bases within {in_gigabytes(KEPT)}"
    return "bdf", "twice differentiable" if smooth else "smoothness not declared"


def declared_smooth(model: PyTree, objective: object = None) -> bool | None:
    """What an objective, or else a model, says of the smoothness of L; None if nothing.

    Args:
        model: any pytree; a `Lift`, or another `flowlift.protocols.AbstractSmoothness`, declares
            it.
        objective: likewise; a mean over infinitely many samples has none of a model's kinks.

    Returns:
        The declaration.
    """
    if isinstance(objective, Penalised):
        return objective.smooth_beside(declared_smooth(model, objective.data))
    told = (each.smooth for each in (objective, model) if isinstance(each, AbstractSmoothness))
    return next(told, None)
