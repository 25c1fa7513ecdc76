"""What a march asks of a solver: where it begins, and bursts of attempts."""

import abc
import inspect
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from ..solvers.host.bursts import Bounds, Burst
from ..solvers.host.stepping import HostField, Start, Vector


class AbstractRunner(abc.ABC):
    """A solver of one flow, ready to run.

    A memory is a pytree of arrays and Python numbers of a structure that never changes; no memory
    and no state that was given or returned is ever changed.

    Attributes:
        dense: whether its interpolant is as accurate as its steps.
        keeps: whether a burst keeps states at the save times that it passes.
        nodes: states inside of a step, by shorter steps, from which on a polynomial through them
            and both ends is as accurate as its steps; 0 for none.
        knows_end: whether bursts judge by themselves whether L at the end of a step, or its
            gradient, meets a threshold.
        sees_end: whether a step is accepted only if L was evaluated where it ends.
    """

    dense: bool
    keeps: bool
    nodes: int
    knows_end: bool
    sees_end: bool

    @abc.abstractmethod
    def start(self, field: HostField, y: Vector) -> Start:
        """The first step and the memory at a state, with the work that they took.

        Args:
            field: the flow.
            y: the state.
        """

    @abc.abstractmethod
    def blank(self, y: Vector) -> Any:
        """A memory of the right structure, whose numbers mean nothing.

        Args:
            y: a state, for its size and type.
        """

    @abc.abstractmethod
    def run(self, field: HostField, y: Vector, memory: Any, h: float, bounds: Bounds) -> Burst:
        """Attempt steps until a bound is met.

        Args:
            field: the flow.
            y: the state.
            memory: the solver's memory.
            h: the first step, attempted in any case.
            bounds: when to end.

        Returns:
            What came of it.
        """


class Request(NamedTuple):
    """A burst that a flow asks for: the arguments of `AbstractRunner.run`, and the runner."""

    runner: AbstractRunner
    field: HostField
    y: Vector
    memory: Any
    h: float
    bounds: Bounds

    def served(self) -> Burst:
        """The burst, by itself."""
        return self.runner.run(*self[1:])


_Found = TypeVar("_Found")
# What waits for bursts, one after another, and comes to something.
Waiting = Generator[Request, Burst, _Found]


def alone(waiting: Waiting[_Found]) -> _Found:
    """Serve each request by itself.

    Args:
        waiting: what asks.

    Returns:
        What it comes to.

    Raises:
        KeyboardInterrupt: on Ctrl-C, whenever it comes: what asks is told, and may answer.
    """
    try:
        request = next(waiting)
        while True:
            try:
                request = waiting.send(request.served())
            except KeyboardInterrupt as stop:
                # It may have come within, and been answered there.
                if inspect.getgeneratorstate(waiting) == inspect.GEN_CLOSED:
                    raise
                request = waiting.throw(stop)
    except StopIteration as stop:
        return stop.value
