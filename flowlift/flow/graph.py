"""Solvers in the graph: any solver of diffrax, in legs compiled whole."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import diffrax
import jax
import numpy as np

from ..packing import Packed, packed
from ..solvers import BDF, RKC2, Halt
from ..solvers.host.bursts import Bounds, Burst
from ..solvers.host.stepping import Dense, HostField, Start, Vector
from ..static import Static, split
from .between import has_accurate_interpolant, interior
from .legs import Memory, Numbers, advancing, beginning, interpolating
from .named import SOLVERS
from .records import Settings
from .runner import AbstractRunner
from .stops import GradientNormBelow, LossBelow, Stop, find

# Of these the march knows itself, or asks for them.
_NOT_FAULTS = (Halt.CONDITION, Halt.BUDGET, Halt.STEP_LIMIT)
# Their branches are computed only where a lane needs them, and their loops end where one rests.
_SIDE_BY_SIDE = (diffrax.AbstractERK, BDF, RKC2)
# Numbers of states that are evaluated in one call: 8 MB in double precision.
_AT_A_TIME = 1_000_000
_MOST_ROWS = 256


@dataclasses.dataclass(frozen=True)
class GraphRunner(AbstractRunner):
    """A solver of diffrax for one problem.

    Attributes:
        arrays: those of the problem and the method.
        static: the rest of both.
        solver: arrays and rest of the solver.
        asked: whether there are thresholds of the loss and of the gradient's norm: each accepted
            step then costs an evaluation.
        side_by_side: whether several flows can run in lanes of one program.
    """

    arrays: list[Any]
    static: Packed
    solver: tuple[list[Any], Static]
    asked: tuple[bool, bool]
    dense: bool
    nodes: int
    sees_end: bool
    knows_end: bool = True
    side_by_side: bool = False

    @property
    def keeps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where its interpolant is as accurate as its steps."""
        return self.dense

    @staticmethod
    def of(settings: Settings, stops: Sequence[Stop]) -> "GraphRunner":
        """The solver of some settings; nothing is compiled.

        Args:
            settings: the problem and the method.
            stops: the rules of the call.

        Returns:
            The runner.
        """
        method = settings.method
        arrays, static = packed((settings.problem, method), settings.problem.objective)
        rules = tuple(stops)
        asked = find(rules, LossBelow) is not None, find(rules, GradientNormBelow) is not None
        dense = has_accurate_interpolant(method.solver, method.term)
        nodes = 0 if dense else interior(method.solver, method.term)
        ends = _sees_end(method.solver)
        together = isinstance(method.solver, _SIDE_BY_SIDE)
        solver = split(method.solver)
        return GraphRunner(arrays, static, solver, asked, dense, nodes, ends, side_by_side=together)

    def start(self, field: HostField, y: Vector) -> Start:
        """As the solver and its controller begin."""
        del field
        memory, step, gradients, products = beginning(self.static)(self.arrays, y)
        return Start(float(step), memory.parts, int(gradients), int(products))

    def blank(self, y: Vector) -> Any:
        """Only the structure is needed: traced, never computed."""
        shapes = jax.eval_shape(beginning(self.static), self.arrays, y)[0]
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).parts

    def run(self, field: HostField, y: Vector, memory: Any, h: float, bounds: Bounds) -> Burst:
        """One call of one compiled program."""
        del field
        run = advancing(self.static, self.asked)
        return self.burst(run(self.arrays, *self.given(y, memory, h, bounds)))

    def given(self, y: Vector, memory: Any, h: float, bounds: Bounds) -> tuple[Any, ...]:
        """What the program takes for a burst, after its arrays.

        Args:
            y: the state.
            memory: the solver's memory.
            h: the first step.
            bounds: when to end.

        Returns:
            y, the memory, the bounds, the save times.
        """
        numbers = Numbers(
            h, *bounds[:5], bounds.attempts, bounds.gradients, bounds.non_finite, bounds.edge
        )
        saves, numbers = np.asarray(bounds.saves, y.dtype), np.array(numbers, y.dtype)
        return y, Memory(*split(memory)), numbers, saves

    def burst(self, found: tuple[Any, ...]) -> Burst:
        """The burst of what the program found.

        Args:
            found: its arrays.

        Returns:
            The burst.
        """
        after, new, dense, *rest = found
        after, lengths, counts, rows, drifts = jax.device_get((after, *rest))
        y = after
        step, time, taken = (float(number) for number in lengths)
        attempts, accepted, gradients, products, non_finite, edge, code, count = counts.tolist()
        halt = Halt(code)
        return Burst(
            after, new.parts, step, time, taken, self._dense(dense, taken, y),
            attempts, accepted, gradients, non_finite, bool(edge), halt == Halt.CONDITION, False,
            products, Halt.NONE if halt in _NOT_FAULTS else halt,
            accepted if any(self.asked) else 0, rows[:count, : y.size],
            drifts[0], drifts[1], rows[:count, y.size :],
        )  # fmt: skip

    def _dense(self, dense: Any, taken: float, y: Vector) -> Dense:
        arrays, static = self.solver

        def evaluated(fractions: np.ndarray) -> np.ndarray:
            run, parts = interpolating(static), []
            rows = max(1, min(_MOST_ROWS, _AT_A_TIME // y.size))
            length = np.asarray(taken, y.dtype)
            for first in range(0, len(fractions), rows):
                part = np.zeros(rows, y.dtype)
                part[: len(fractions) - first] = fractions[first : first + rows]
                parts.append(np.asarray(run(arrays, dense, length, part)))
            return np.concatenate(parts)[: len(fractions)]

        return evaluated


def check_lanes(batch: Any, solver: Any) -> None:
    """Refuse a number of lanes for a solver that has none.

    Args:
        batch: as for `solve_each`; "auto" and None ask for nothing.
        solver: as for `solve`; what "auto" takes of solvers without lanes runs by itself.

    Raises:
        ValueError: for one without.
    """
    made = SOLVERS[solver]() if isinstance(solver, str) and solver in SOLVERS else solver
    if not (batch in (None, "auto") or isinstance(made, (str, *_SIDE_BY_SIDE))):
        raise ValueError(
            f"Argument `batch` must be left out with a solver that has no lanes, {solver!r}, but "
            f"is {batch!r}; take it out, or choose 'bdf', 'rkc2' or an explicit Runge-Kutta method."
        )


def _sees_end(solver: Any) -> bool:
    """The last stage of an implicit method is where its root finder left it."""
    explicit = isinstance(solver, diffrax.AbstractERK)
    return isinstance(solver, RKC2) or (explicit and bool(cast(Any, solver).tableau.fsal))
