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
class Carried:
    """What a state holds and follows beyond d theta/dt = -grad L and its two integrals.

    A state y is one vector (N,): theta (P,), further vectors (P,) that the field depends on,
    further numbers, and the two integrals.

    Attributes:
        size: P.
        vectors: how many further vectors there are.
        rates: y -> (L, dy/dt). One evaluation.
        traced: (leaves, y) -> (L, |grad L|, dy/dt), to be compiled with more around it.
        friction: y -> g where theta' = v, v' = F(theta) - g v, with v the first vector and a
            symmetric Jacobian of F; None where theta' = F itself.
    """

    size: int
    vectors: int
    rates: Callable[[Vector], tuple[float, Vector]]
    traced: Callable[[Sequence[Any], Any], tuple[Any, Any, Any]]
    friction: Callable[[Vector], float] | None = None


@dataclasses.dataclass(frozen=True)
class HostField:
    """The flow d theta/dt = F as the host calls it, with two integrals along it.

    F = -grad L, and a state y is one vector (P + 2,), theta, int |grad L| dt, int |grad L|^2 dt,
    unless more is carried. Where theta stands for coordinates phi = D^(-1/2) theta of a flow with
    rates, the first integral is that of |D^(1/2) grad L|, the speed of D^(1/2) phi, and absolute
    tolerances are meant for D^(1/2) phi.

    Attributes:
        value_and_grad: theta -> (L, grad L), a Python number and an array (P,). One gradient.
        product: (theta, v) -> H v, arrays (P,), with H = -dF/dtheta. One Hessian-vector product.
            Where more is carried, of the whole state: see `at`.
        live: how many leading coordinates of theta count; the others are zeros that never move.
        traced: (leaves, theta) -> (L, grad L), to be compiled with more around it.
        leaves: what `traced` is called with.
        equations: the size of the traced gradient.
        roots: D^(1/2), also for each vector that is carried, and 1 for numbers and integrals, (N,);
            None where D is 1.
        carried: what a state holds beyond theta and the two integrals; None for nothing.
    """

    value_and_grad: Callable[[Vector], tuple[float, Vector]]
    product: Callable[[Vector, Vector], Vector]
    live: int
    traced: Callable[[Sequence[Any], Any], tuple[Any, Any]]
    leaves: Sequence[Any]
    equations: int
    roots: Vector | None = None
    carried: Carried | None = None

    def size(self, y: Vector) -> int:
        """P, of a state."""
        return y.size - 2 if self.carried is None else self.carried.size

    def measured(self, y: Vector) -> int:
        """How many leading numbers of a state errors are controlled on: theta, and the vectors."""
        return (
            y.size - 2 if self.carried is None else self.carried.size * (1 + self.carried.vectors)
        )

    def at(self, y: Vector) -> Vector:
        """What of a state a product is taken at."""
        return y[:-2] if self.carried is None else y

    def rates(self, y: Vector) -> tuple[float, Vector]:
        """L and dy/dt, for the plain flow (-grad L, |grad L|, |grad L|^2). One gradient.

        Args:
            y: the state.

        Returns:
            L, and the rates, with the type of y.
        """
        if self.carried is not None:
            return self.carried.rates(y)
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

    def drift(self, error: Vector) -> Vector:
        """What a step may have put wrong into the arc length.

        Args:
            error: the step's error estimate, (N,).

        Returns:
            The estimate of the integral itself, and |D^(1/2) error| of theta, (2,).
        """
        own = error[: self.size(error)]
        moved = own if self.roots is None else self.roots[: own.size] * own
        return np.array([abs(error[-2]), math.sqrt(float(moved @ moved))], error.dtype)

    def norm(self, vector: Vector) -> float:
        """Root mean square over the coordinates of theta that count.

        Args:
            vector: (P,) or more; zero beyond the coordinates that count. Where vectors are
                carried, the `measured` part of a state.

        Returns:
            The norm, the largest of theta's and the vectors'.
        """
        counted = vector[: self.live]
        theta = math.sqrt(float(counted @ counted) / self.live)
        if self.carried is None or not self.carried.vectors or vector.size <= self.carried.size:
            return theta
        rest = vector[self.carried.size :].reshape(self.carried.vectors, -1)[:, : self.live]
        # NaN stays NaN.
        return float(np.max([theta, *np.sqrt(np.sum(rest * rest, axis=1) / self.live)]))


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
        dense: fractions of the step, in (0, 1], (m,) -> states (m, N) there.
        finite: whether all that was judged is finite; the candidate is looked at besides.
        loss: L at the candidate, if it came along.
        gradient_norm: |grad L| there, if it came along.
        halt: a `Halt` if the method cannot go on.
        drift: what the step may have put wrong into the arc length, see `HostField.drift`, (2,).
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
    drift: Any = 0.0


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
