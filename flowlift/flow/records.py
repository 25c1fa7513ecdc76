"""What a flow is asked for, and where it stands: plain records, kept apart from the loop."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .choice import Automatic
from .methods import Method
from .observers import Observers
from .problem import Problem
from .solution import FlowStats
from .stops import Stop
from .trace import Trace


@dataclasses.dataclass(frozen=True)
class Settings:
    """What stays the same when a flow is resumed.

    Attributes:
        problem: theta_0, the objective.
        method: the solver with its controller.
        observers: further observers.
        precision: "float64" or "float32".
        max_steps: limit of attempted steps of one `solve` or `resume`.
        tolerances: rtol and atol.
        choice: the automatic choice of the solver, if it was left to us.
        engine: which engine drives the solver, "host" or "graph".
        rates: of all trainable leaves by name; None for 1.
    """

    problem: Problem
    method: Method
    observers: Observers
    precision: str
    max_steps: int
    tolerances: tuple[float, float]
    choice: Automatic | None
    engine: str
    rates: Mapping[str, float] | None = None

    @property
    def solver(self) -> str:
        """Which solver runs, and why if it was chosen automatically."""
        return self.choice.text if self.choice else self.method.name

    def stats(self, position: Any, trace: Trace) -> FlowStats:
        """The work done up to a position.

        Args:
            position: where the flow stands.
            trace: its records so far.

        Returns:
            True counts.
        """
        controller = position.controller
        return FlowStats(
            gradients=int(controller.work.gradients),
            hvps=int(controller.work.hvps) + (self.choice.products if self.choice else 0),
            observation_gradients=trace.observation_gradients,
            steps=int(controller.attempts),
            rejected=int(controller.attempts) - int(controller.accepted),
            legs=trace.legs,
            seconds=trace.seconds,
        )

    @property
    def solvers(self) -> tuple[str, ...]:
        """The names of the solvers that ran, in turn."""
        return self.choice.names if self.choice else (self.method.name,)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a flow stands: its settings, its position and its records so far."""

    settings: Settings
    position: Any
    trace: Trace


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one call of `solve` or `resume` is to do.

    Attributes:
        horizon: the end.
        times: save times and those of snapshots, increasing, the last one the horizon.
        snapshots: (number that was asked for, time of the flow) pairs, equal but for rounding.
        stops: stopping rules.
        max_gradients: budget of this call in gradients, a product counting as two.
    """

    horizon: float
    times: np.ndarray
    snapshots: tuple[tuple[float, float], ...]
    stops: tuple[Stop, ...]
    max_gradients: float


def keep_snapshot(settings: Settings, trace: Trace, plan: Plan, time: float, theta) -> None:
    """Keep the model if it was asked for at this time.

    Args:
        settings: with the problem.
        trace: the records.
        plan: what was asked for.
        time: the time.
        theta: the parameters there.
    """
    for asked, at in plan.snapshots:
        if at == time:
            trace.snapshots[asked] = settings.problem.model_on_host(theta)
