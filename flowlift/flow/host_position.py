"""Where a flow on the host stands: plain frozen records of NumPy arrays and Python numbers."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import numpy as np

from ..solvers import Halt
from ..solvers.pace import WINDOW

_record = partial(jax.tree_util.register_dataclass)


@_record
@dataclasses.dataclass(frozen=True)
class Tally:
    """Work so far.

    Attributes:
        gradients: evaluations of the field.
        hvps: Hessian-vector products.
    """

    gradients: int = 0
    hvps: int = 0

    @property
    def cost(self) -> int:
        """Gradient equivalents: gradients + 2 products."""
        return self.gradients + 2 * self.hvps


@_record
@dataclasses.dataclass(frozen=True)
class HostPace:
    """As `flowlift.solvers.pace.Pace`, on the host.

    Attributes:
        time: time integrated before this window.
        gained: time gained in this window.
        attempts: attempts in this window.
        doubling: attempts that doubling the time would have taken at the last full window's pace;
            0 before one is full.
    """

    time: float = 0.0
    gained: float = 0.0
    attempts: int = 0
    doubling: float = 0.0

    @property
    def left(self) -> int:
        """Attempts until this window is full."""
        return WINDOW - self.attempts

    def after(self, gain: float, attempts: int) -> "HostPace":
        """The measurement after some more attempts, at most as many as are left in the window.

        Args:
            gain: the time that they gained.
            attempts: their number.

        Returns:
            The measurement.
        """
        gained, count = self.gained + gain, self.attempts + attempts
        if count < WINDOW:
            return HostPace(self.time, gained, count, self.doubling)
        time = self.time + gained
        return HostPace(time, 0.0, 0, WINDOW * time / max(gained, float(np.finfo(float).tiny)))

    def taken_over(self) -> "HostPace":
        """The measurement for another solver that goes on from here: its windows are its own."""
        return HostPace(self.time + self.gained)


@_record
@dataclasses.dataclass(frozen=True)
class HostControl:
    """Counts and limits, as in `flowlift.solvers.WorkState`.

    Attributes:
        work: work so far.
        attempts: attempted steps so far.
        accepted: accepted steps so far.
        step: the next step, not cut by the end of the flow.
        pace: how fast time gets on.
        non_finite: attempts in a row whose result was not finite.
        edge: whether the last rejected attempt was one of them.
        halt: a `Halt`.
        barred: a `Halt` of the method itself, for good.
        max_gradients: halt when the cost is so many gradients.
        max_attempts: halt when so many steps are attempted.
    """

    work: Tally = Tally()
    attempts: int = 0
    accepted: int = 0
    step: float = 0.0
    pace: HostPace = HostPace()
    non_finite: int = 0
    edge: bool = False
    halt: int = int(Halt.NONE)
    barred: int = int(Halt.NONE)
    max_gradients: float = math.inf
    max_attempts: float = math.inf

    def allow(self, gradients: float, attempts: float) -> "HostControl":
        """The same counts with a fresh allowance, counted from now on.

        Args:
            gradients: further evaluations.
            attempts: further attempted steps.

        Returns:
            The counts with their limits.
        """
        return dataclasses.replace(
            self,
            max_gradients=self.work.cost + float(gradients),
            max_attempts=self.attempts + float(attempts),
            halt=int(Halt.NONE),
            non_finite=0,
        )


@_record
@dataclasses.dataclass(frozen=True)
class Place:
    """A place of the integration, from where it goes on.

    Attributes:
        y: the state, (N,).
        memory: the method's memory.
        step: the step to attempt next.
        time: the time, in double precision whatever the flow's.
        drift: what the steps so far may have put wrong into the arc length, the sum of their
            estimates, see `flowlift.solvers.host.stepping.HostField.drift`, (2,).
    """

    y: np.ndarray
    memory: Any
    step: float
    time: float
    drift: np.ndarray


@dataclasses.dataclass(frozen=True)
class HostPosition:
    """Where a flow stands.

    Attributes:
        here: where the integration goes on within this call.
        anchor: where it goes on in another call: the same, but once steps are cut so that they
            meet the end of this call, the place before them.
        seen: the state at the time that the trace says.
        drift: the drift there, see `Place`.
        controller: counts and limits.
    """

    here: Place
    anchor: Place
    seen: np.ndarray
    drift: np.ndarray
    controller: HostControl

    def charged(self, cost: float) -> "HostPosition":
        """The position with less of its budget: something else than the solver spent it.

        Args:
            cost: gradients + 2 products.

        Returns:
            The position.
        """
        left = self.controller.max_gradients - cost
        control = dataclasses.replace(self.controller, max_gradients=left)
        return dataclasses.replace(self, controller=control)
