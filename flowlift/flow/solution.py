"""What a flow leaves behind."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, PyTree

from ..drawings import curve
from ..showing import Card, shows_itself
from ..words import number
from .frame import axis_of, frame, in_log_time
from .held_out import HELD_OUT
from .infinity import growth
from .outcome import Outcome
from .problem import RECORDED

if TYPE_CHECKING:
    import pandas


@shows_itself
@dataclasses.dataclass(frozen=True)
class FlowStats:
    """Work done, in true counts: rejected steps are included.

    Attributes:
        gradients: gradients of L that the solver evaluated.
        hvps: Hessian-vector products that the solver evaluated.
        observation_gradients: gradients spent on records and stopping rules, counted apart (a
            loss alone counts as one); with the work of those observers that say what they cost.
        steps: attempted steps.
        rejected: attempted steps that were rejected.
        legs: how often the solver came back to be judged.
        seconds: wall time, compilation included; never used in a decision.
    """

    gradients: int = 0
    hvps: int = 0
    observation_gradients: int = 0
    steps: int = 0
    rejected: int = 0
    legs: int = 0
    seconds: float = 0.0

    def _card_(self) -> Card:
        work = f"{self.gradients} gradients, {self.hvps} products, {self.steps} steps"
        title = f"FlowStats: {work} ({self.rejected} rejected), {self.seconds:.3g} s"
        names = ("observation_gradients", "legs", "cost")
        return Card(title, [(name, getattr(self, name)) for name in names])

    @property
    def cost(self) -> int:
        """Gradient equivalents: gradients + 2 Hessian-vector products."""
        return self.gradients + 2 * self.hvps


@shows_itself
@dataclasses.dataclass(frozen=True)
class FlowSolution:
    """A gradient flow theta(t), 0 <= t <= time, as plain NumPy records at the save times.

    Time is that of d theta/dt = -D grad L, D the rates, 1 where none are given: t =
    learning rate x gradient descent steps for the task's own L (a mean over samples; for squared
    loss without 1/2).

    Attributes:
        model: the model at theta(time): the end of the flow, never the best point seen.
        time: the flow time reached.
        result: how it ended.
        times: the save times reached, from 0; the last one is `time`.
        loss: L there.
        gradient_norm: |D^(1/2) grad L| there, so that dL/dt = -gradient_norm^2; the stopping rule
            on the gradient's norm is about the same one.
        arc_length: int_0^t |D grad L| dt, the length of the path of theta.
        energy: int_0^t <grad L, D grad L> dt; L(0) - L(t) on the exact flow.
        distance: |theta(t) - theta(0)|.
        observations: further observers' records by name: values like the observer's, each array
            with the times in front, (times, ...).
        snapshots: models at the requested times that were reached.
        stats: work done.
        solver: which solver ran, and why if it was chosen automatically.
        solvers: the names of those that ran, in turn.
        precision: "float64" or "float32".
        engine: what drove the solver, "host" or "graph"; empty where nothing did.
        rates: of all trainable leaves by name, 0 for those that did not flow; None for 1.
        held_out_loss: the loss on the task's held-out data, which may rise; None without such data.
        accuracy: the share of training samples with the right label: that of the greatest output,
            or its sign where labels are +1 and -1. None without held-out data or without labels.
        held_out_accuracy: the same of held-out samples.
        errors: estimated errors of integrals, `arc_length`, `energy` and those of a dynamics, by
            name. Where one exceeds a hundredth of the number, or 10 rtol of it, the record is NaN:
            not resolved.
    """

    model: PyTree
    time: float
    result: Outcome
    times: Float[np.ndarray, " times"]
    loss: Float[np.ndarray, " times"]
    gradient_norm: Float[np.ndarray, " times"]
    arc_length: Float[np.ndarray, " times"]
    energy: Float[np.ndarray, " times"]
    distance: Float[np.ndarray, " times"]
    observations: Mapping[str, PyTree[np.ndarray]]
    snapshots: Mapping[float, PyTree]
    stats: FlowStats
    solver: str
    solvers: tuple[str, ...]
    precision: str
    engine: str = ""
    rates: Mapping[str, float] | None = None
    held_out_loss: Float[np.ndarray, " times"] | None = None
    accuracy: Float[np.ndarray, " times"] | None = None
    held_out_accuracy: Float[np.ndarray, " times"] | None = None
    errors: Mapping[str, Float[np.ndarray, " times"]] = dataclasses.field(default_factory=dict)
    # What `resume` needs; opaque to users.
    checkpoint: object = dataclasses.field(repr=False, compare=False, default=None)

    @property
    def success(self) -> bool:
        """Whether the flow ended at the horizon or by a stopping rule."""
        return self.result.reached

    @property
    def message(self) -> str:
        """What happened, where, and what to change."""
        return (
            f"{self.result.sentence} Reached t = {self.time:.6g} with loss {self.loss[-1]:.6g} "
            f"after {self.stats.steps} steps."
        )

    def to_dataframe(self) -> "pandas.DataFrame":
        """The records as a table for pandas, a row for each save time.

        Returns:
            Indexed by the times, under a name that says what time means: t, or log(1 + t) of the
            flow of log L. Columns: `loss`, `gradient_norm`, `arc_length`, `energy`, `distance`,
            records of held-out data if there are any, and the observations by name, each number of
            an array under its place, such as `theta[0, 2]`. `attrs` holds how it ended, the solver
            and the precision. All numbers are those of the records, in their own precision.
        """
        about = {"result": self.result.value, "time": self.time, "solver": self.solver}
        records = {name: getattr(self, name) for name in (*RECORDED, *HELD_OUT)}
        records = {name: values for name, values in records.items() if values is not None}
        table = frame(self.times, records, self.observations)
        table.attrs |= about | {"precision": self.precision}
        return table

    def _error(self, name: str) -> str:
        error = self.errors.get(name)
        return "" if error is None or not len(error) else f" ± {error[-1]:.1e}"

    def _card_(self) -> Card:
        title = f"FlowSolution: {self.result.value} at t = {self.time:.6g}"
        rows: list[tuple[str, Any]] = [] if self.success else [("why", self.result.sentence)]
        rows += [("loss", _from_to(self.loss)), ("gradient_norm", _from_to(self.gradient_norm))]
        rows += [("distance", _from_to(self.distance)), *self._growth()]
        rows += [(n, _from_to(getattr(self, n)) + self._error(n)) for n in ("arc_length", "energy")]
        further = [(name, getattr(self, name)) for name in HELD_OUT]
        rows += [(name, _from_to(values)) for name, values in further if values is not None]
        rows += [
            ("times", self.times),
            ("stats", self.stats._card_().title.removeprefix("FlowStats: ")),
        ]
        rows += [("solver", self.solver), ("precision", f"{self.precision}, engine {self.engine}")]
        rows += [("rates", self.rates)] if self.rates else []
        rows += [("observations", self.observations)] if self.observations else []
        rows += [("snapshots", list(self.snapshots))] if self.snapshots else []
        rows += [("model", self.model)]
        clock = axis_of(self.observations)
        return Card(title, rows, lambda: curve(self.times, self.loss, clock, "loss"))

    def _growth(self) -> list[tuple[str, str]]:
        """The evidence, where theta looks as if it went off to infinity; else nothing."""
        if not len(self.loss):
            return []
        log_time = in_log_time(self.observations)
        found = growth(self.times, self.distance, float(self.loss[-1]), log_time)
        if not found.diverging:
            return []
        of = "distance" if found.degree == 1 else f"distance^{found.degree:.0f}"
        fit = f"{of} like t^p, p from {found.low:.2f} to {found.high:.2f} (0: log t)"
        return [("diverging", f"{fit} over {found.decades:.0f} decades; a fit, no certificate")]


def _from_to(values: np.ndarray) -> str:
    if not len(values):
        return "no record"
    return f"{number(values[0])} -> {number(values[-1])}"
