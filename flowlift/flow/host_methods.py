"""Which description on the host a solver has, and how it runs: in bursts, or step by step."""

import dataclasses
from typing import Any, cast

import diffrax
import numpy as np

from ..solvers import BDF, RKC2, ExpRosenbrock, Halt
from ..solvers.host.bdf import HostBDF
from ..solvers.host.bursts import Bounds, Burst
from ..solvers.host.explicit import HostExplicit, LeanExplicit, Tableau
from ..solvers.host.exprb import HostExprb
from ..solvers.host.lean import AbstractLeanMethod
from ..solvers.host.rkc import HostRKC, LeanRKC
from ..solvers.host.stepping import AbstractHostMethod, HostField, Start, Vector
from ..solvers.streak import streak
from ..solvers.two_stages import TWO_STAGES
from .between import interior
from .methods import Method, least_atol, theta_of
from .records import Settings
from .runner import AbstractRunner

# Equations of the traced gradient. With more, a second copy of it in a loop of steps takes longer
# to compile than calls from the host, of 0.1 ms each, cost in a whole flow: a small lift has some
# 100, 64 layers in a loop 160, two blocks of a transformer 880 (benchmarks/first_solve.py).
_LARGE = 500


@dataclasses.dataclass(frozen=True)
class HostRunner(AbstractRunner):
    """A method on the host.

    Attributes:
        method: its description, one attempt at a time.
        lean: the same in bursts; None where it runs step by step.
        constants: numbers of the bursts.
        knows_end: whether L at the end of a step comes along with it.
    """

    method: AbstractHostMethod
    lean: AbstractLeanMethod | None
    constants: dict[str, float]
    dense: bool
    knows_end: bool
    sees_end: bool
    nodes: int = 0

    @property
    def keeps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where it runs in bursts."""
        return self.lean is not None and self.dense

    def start(self, field: HostField, y: Vector) -> Start:
        """As the method begins."""
        return self.method.start(field, y)

    def blank(self, y: Vector) -> Any:
        """Of the whole state."""
        return self.method.blank(y)

    def run(self, field: HostField, y: Vector, memory: Any, h: float, bounds: Bounds) -> Burst:
        """In one compiled loop, or one attempt."""
        if self.lean is not None:
            return self.lean.run(field, y, memory, h, bounds, self.constants)
        return _single(self.method, field, y, memory, h, bounds)


def serves(method: Method) -> bool:
    """Whether the host has a description of a solver.

    Args:
        method: the solver.

    Returns:
        The verdict.
    """
    solver = method.solver
    if isinstance(solver, BDF | RKC2 | ExpRosenbrock):
        # Functions of the state of the graph, and some settings, are for the graph.
        if solver.select is not theta_of:
            return False
        if isinstance(solver, RKC2):
            return solver.radius is None
        return isinstance(solver, BDF) or (solver.rtol is None and solver.atol is None)
    return _is_explicit(solver)


def host_runner(settings: Settings, field: HostField) -> HostRunner:
    """The description of a solver that the host serves.

    Args:
        settings: with the solver and its tolerances.
        field: the flow: bursts hold a copy of its gradient, where that is small.

    Returns:
        The runner.
    """
    solver, (rtol, atol) = settings.method.solver, settings.tolerances
    atol = max(atol, least_atol(settings.problem, settings.precision))
    carried = field.carried
    beside = 2 if carried is None else settings.problem.state_on_host.size - carried.size
    if isinstance(solver, BDF):
        method = HostBDF.of(solver, rtol, atol, beside)
        return HostRunner(method, None, {}, dense=True, knows_end=False, sees_end=False)
    if isinstance(solver, ExpRosenbrock):
        method = HostExprb(rtol, atol, solver.max_basis, solver.memory)
        return HostRunner(method, None, {}, dense=True, knows_end=False, sees_end=False)
    constants = {"rtol": rtol, "atol": atol}
    small = field.equations <= _LARGE
    if isinstance(solver, RKC2):
        lean = LeanRKC(solver.max_stages) if small else None
        method = HostRKC(rtol, atol, solver.max_stages, beside)
        # It takes the rate of the arc length for |grad L|.
        knows = carried is None
        return HostRunner(method, lean, constants, dense=True, knows_end=knows, sees_end=True)
    tableau = Tableau(cast(Any, type(solver)))
    lean = LeanExplicit(tableau) if small else None
    method = HostExplicit(tableau, rtol, atol)
    dense = tableau.weights is not None
    nodes = 0 if dense else interior(solver, settings.method.term)
    knows_end = tableau.reuses and (carried is None or lean is not None)
    return HostRunner(method, lean, constants, dense, knows_end, tableau.reuses, nodes)


def _is_explicit(solver: Any) -> bool:
    """An explicit pair of diffrax as it is: a class of one's own may step in another way."""
    kind = type(solver)
    own = kind in TWO_STAGES.values()
    return own or (isinstance(solver, diffrax.AbstractERK) and kind.__module__[:8] == "diffrax.")


def _single(
    method: AbstractHostMethod, field: HostField, y: Vector, memory: Any, h: float, bounds: Bounds
) -> Burst:
    """One attempt, told as a burst."""
    tried = method.attempt(field, y, memory, h)
    finite = tried.finite and np.isfinite(tried.step) and bool(np.isfinite(tried.y).all())
    keep = tried.keep and finite
    measured = field.measured(y)
    stands = keep and np.array_equal(tried.y[:measured], y[:measured])
    loss, norm = tried.loss, tried.gradient_norm
    met = keep and loss is not None and loss <= bounds.loss
    met = met or (keep and norm is not None and norm <= bounds.gradient_norm)
    return Burst(
        y=tried.y if keep else y,
        memory=tried.memory if keep else memory,
        step=float(tried.step) if finite else h / 2,
        time=h if keep else 0.0,
        taken=h if keep else 0.0,
        dense=tried.dense,
        attempts=1,
        accepted=int(keep),
        gradients=tried.gradients,
        non_finite=int(streak(bounds.non_finite, finite, stands)),
        edge=bounds.edge if keep else not finite,
        met=bool(met),
        left=False,
        products=tried.products,
        # What the solver found out where nothing was finite is no evidence.
        halt=tried.halt if finite else Halt.NONE,
        drift=tried.drift if keep else 0.0,
        last_drift=tried.drift if keep else 0.0,
    )
