"""What the loop asks of an engine: begin, advance by a leg, record, change the method."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .outcome import Outcome
from .records import Plan, Settings
from .trace import Trace


class AbstractEngine(abc.ABC):
    """Drives the solver of one problem. What it knows of a flow is in the position.

    A position has `theta` (the parameters at the time that the trace says) and `controller`, with
    the counts of work: `work`, `attempts`, `accepted`, `step`, `pace`.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def begin(self, settings: Settings, plan: Plan) -> Any:
        """The position at t = 0, with the first step size.

        Args:
            settings: the problem and the method.
            plan: what is to do.
        """

    @abc.abstractmethod
    def restart(self, settings: Settings, plan: Plan, position: Any, time: float) -> Any:
        """The same position for another method; the counts go on.

        Args:
            settings: with the method that takes over.
            plan: what is to do.
            position: where the other one stands.
            time: the time there.
        """

    @abc.abstractmethod
    def allow(self, settings: Settings, plan: Plan, position: Any, spent: float) -> Any:
        """The position with the limits of this call.

        Args:
            settings: with the limit of steps.
            plan: with the budget.
            position: where the flow stands.
            spent: evaluations that this call has made already.
        """

    @abc.abstractmethod
    def leg(
        self,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: Any,
        over: Callable[[], bool],
    ) -> tuple[Any, Outcome | None]:
        """Advance, and record what is passed.

        Args:
            settings: the problem and the method.
            trace: the records, which grow.
            plan: what is to do.
            position: where the flow stands.
            over: whether a rule that is asked at save times ends the flow at the last record.

        Returns:
            The new position; why the integration cannot go on, None if it can.
        """

    @abc.abstractmethod
    def halted(self, position: Any) -> bool:
        """Whether a stopping rule halted the last leg.

        Args:
            position: where the flow stands.
        """

    @abc.abstractmethod
    def record(self, settings: Settings, trace: Trace, position: Any) -> None:
        """Record the position at the time reached.

        Args:
            settings: the problem and what is observed.
            trace: the records, which grow by one.
            position: where the flow stands.
        """

    @abc.abstractmethod
    def pack(self, position: Any) -> list[np.ndarray]:
        """The arrays of a position, in order.

        Args:
            position: where the flow stands.
        """

    @abc.abstractmethod
    def unpack(self, settings: Settings, plan: Plan, arrays: list[np.ndarray]) -> Any:
        """A position from its arrays, to the last bit.

        Args:
            settings: the problem and the method.
            plan: what is to do.
            arrays: in the order of `pack`.
        """
