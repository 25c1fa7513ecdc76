"""What a method on the host is asked, and what it answers: plain records."""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..work import Halt

Vector = np.ndarray
Dense = Callable[[Vector], np.ndarray]


@dataclasses.dataclass(frozen=True)
class HostField:
    """The flow d theta/dt = -grad L as the host calls it, with two integrals along it.

    A state y is one vector (P + 2,): theta, int |grad L| dt, int |grad L|^2 dt.

    Attributes:
        value_and_grad: theta -> (L, grad L), a Python number and an array (P,). One gradient.
        product: (theta, v) -> H v, arrays (P,). One Hessian-vector product.
        live: how many leading coordinates of theta count; the others are zeros that never move.
        traced: (leaves, theta) -> (L, grad L), to be compiled with more around it.
        leaves: what `traced` is called with.
        equations: the size of the traced gradient.
    """

    value_and_grad: Callable[[Vector], tuple[float, Vector]]
    product: Callable[[Vector, Vector], Vector]
    live: int
    traced: Callable[[Sequence[Any], Any], tuple[Any, Any]]
    leaves: Sequence[Any]
    equations: int

    def rates(self, y: Vector) -> tuple[float, Vector]:
        """L and dy/dt = (-grad L, |grad L|, |grad L|^2). One gradient.

        Args:
            y: the state.

        Returns:
            L, and the rates, with the type of y.
        """
        loss, gradient = self.value_and_grad(y[:-2])
        squared = float(gradient @ gradient)
        rates = np.empty(y.size, y.dtype)
        np.negative(gradient, out=rates[:-2])
        # As in the graph, where the root must have a derivative at 0.
        rates[-2] = math.sqrt(squared + float(np.finfo(y.dtype).tiny))
        rates[-1] = squared
        return loss, rates

    def norm(self, vector: Vector) -> float:
        """Root mean square over the coordinates of theta that count.

        Args:
            vector: (P,) or more; zero beyond the coordinates that count.

        Returns:
            The norm.
        """
        counted = vector[: self.live]
        return math.sqrt(float(counted @ counted) / self.live)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a method begins.

    Attributes:
        step: the first step to attempt.
        memory: the method's memory.
        gradients: evaluations that it took.
        products: Hessian-vector products that it took.
        halt: a `Halt` if the method cannot go on from here.
    """

    step: float
    memory: Any
    gradients: int
    products: int = 0
    halt: Halt = Halt.NONE


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempted step of length h.

    Attributes:
        y: the candidate.
        keep: whether the method accepts it.
        step: the step to attempt next: after this one if it is accepted, instead of it else.
        memory: the method's memory after an accepted step. After a rejected one the memory is what
            it was.
        gradients: evaluations that it took.
        products: Hessian-vector products that it took.
        dense: fractions of the step, in (0, 1], (m,) -> states (m, P + 2) there.
        finite: whether all that was judged is finite; the candidate is looked at besides.
        loss: L at the candidate, if it came along.
        gradient_norm: |grad L| there, if it came along.
        halt: a `Halt` if the method cannot go on.
    """

    y: Vector
    keep: bool
    step: float
    memory: Any
    gradients: int
    products: int
    dense: Dense
    finite: bool = True
    loss: float | None = None
    gradient_norm: float | None = None
    halt: Halt = Halt.NONE


class AbstractHostMethod(abc.ABC):
    """A one-attempt-at-a-time integrator of dy/dt, on the host.

    It never changes an array that it was given or has returned: attempts are rejected, and flows
    gone on with from any former place. A memory is a frozen dataclass, registered as a pytree,
    whose leaves are NumPy arrays and Python numbers, of a structure that never changes.
    """

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
    def attempt(self, field: HostField, y: Vector, memory: Any, h: float) -> Attempt:
        """One attempt.

        Args:
            field: the flow.
            y: the state.
            memory: the method's memory there.
            h: the step, > 0: the one that was proposed, or a shorter one.
        """
