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

    A state y is one vector (P + 2,): theta, int |grad L| dt, int |grad L|^2 dt. Where theta stands
    for coordinates phi = D^(-1/2) theta of a flow with rates, the first integral is that of
    |D^(1/2) grad L|, the speed of D^(1/2) phi, and absolute tolerances are meant for D^(1/2) phi.

    Attributes:
        value_and_grad: theta -> (L, grad L), a Python number and an array (P,). One gradient.
        product: (theta, v) -> H v, arrays (P,). One Hessian-vector product.
        live: how many leading coordinates of theta count; the others are zeros that never move.
        traced: (leaves, theta) -> (L, grad L), to be compiled with more around it.
        leaves: what `traced` is called with.
        equations: the size of the traced gradient.
        roots: D^(1/2), and 1 for both integrals, (P + 2,); None where D is 1.
    """

    value_and_grad: Callable[[Vector], tuple[float, Vector]]
    product: Callable[[Vector, Vector], Vector]
    live: int
    traced: Callable[[Sequence[Any], Any], tuple[Any, Any]]
    leaves: Sequence[Any]
    equations: int
    roots: Vector | None = None

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
        speed = squared
        if self.roots is not None:
            moved = self.roots[:-2] * gradient
            speed = float(moved @ moved)
        # As in the graph, where the root must have a derivative at 0.
        rates[-2] = math.sqrt(speed + float(np.finfo(y.dtype).tiny))
        rates[-1] = squared
        return loss, rates

    def allowed(self, rtol: float, atol: float, size: Vector) -> Vector:
        """The error that is allowed, atol + rtol |y|, with atol in units of theta.

        Args:
            rtol: relative tolerance.
            atol: absolute tolerance.
            size: |y|, or its leading coordinates.

        Returns:
            The error of each of them.
        """
        if self.roots is None:
            return atol + rtol * size
        return atol / self.roots[: size.size] + rtol * size

    def speed_change(self, rates: Vector, image: Vector) -> float:
        """The derivative of |D^(1/2) grad L|^2 / 2 where the gradient changes by -image."""
        weighted = rates[:-2] if self.roots is None else rates[:-2] * self.roots[:-2] ** 2
        return float(weighted @ image)

    def gradient_norm(self, rates: Vector) -> float:
        """|grad L| from dy/dt."""
        return float(rates[-2] if self.roots is None else np.sqrt(rates[-1]))

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
