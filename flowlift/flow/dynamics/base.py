"""What flows, and how: a dynamics says the rates of theta and of all that it carries along."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...attributes import read_plainly
from ...numbers import real
from ...registry import register
from ...showing import shows_itself


@read_plainly
class Quadratures(eqx.Module):
    """Integrals along the flow, carried with theta.

    Attributes:
        arc_length: int_0^t |theta'| dt, the length of the path of theta.
        energy: int_0^t -<grad L, theta'> dt, equal to L(0) - L(t) on the exact flow.
    """

    arc_length: Float[Array, ""]
    energy: Float[Array, ""]

    @staticmethod
    def zero(dtype) -> "Quadratures":
        """Both integrals at t = 0."""
        return Quadratures(jnp.zeros((), dtype), jnp.zeros((), dtype))


# Theta and the integrals; where a dynamics carries more, a third part: its arrays, vectors first.
State = tuple[Any, ...]
Further = Mapping[str, Array]


class Rates(NamedTuple):
    """The right-hand side of a dynamics.

    Attributes:
        loss: L, which thresholds of the loss are compared with.
        gradient_norm: |grad L|.
        theta: theta', in the coordinates phi = D^(-1/2) theta of a flow with rates.
        further: rates of all that the dynamics carries, by name.
        energy: the rate of the integral `energy`.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    theta: Float[Array, " P"]
    further: dict[str, Array]
    energy: Float[Array, ""]


@shows_itself
class AbstractDynamics(eqx.Module):
    """A flow theta' = F of the parameters and of what the flow carries besides.

    Solvers see an autonomous field of one state: theta (P,), further vectors (P,) that the flow
    depends on, further numbers, and two integrals. A field that depends on time carries its clock
    as a number of rate 1. Errors are controlled on theta and on the vectors, each a root mean
    square of error / (atol + rtol |.|) of its own, the largest of which counts; numbers and
    integrals take no part.

    With rates D, the theta that a dynamics sees is phi = D^(-1/2) theta, and gradients are those in
    phi, see `flowlift.flow.problem.Problem`.

    A subclass is a frozen record of numbers, which become arrays of the flow's precision before
    anything is traced, so that other values compile nothing. Its methods but `check`, `start`,
    `recorded` and `stiffness` are traced.

    Attributes:
        vectors: names of the vectors.
        numbers: names of the numbers.
        records: names of what it records besides, see `recorded`.
        symmetric: whether theta' is a function of theta and the numbers alone whose Jacobian with
            respect to theta is symmetric.
        second_order: whether theta' = v, v' = F(theta) - g v with v the first vector and F of
            symmetric Jacobian; g is then its `damping`.
        whole: whether it needs the objective in one piece, not in chunks of samples.
        record_cost: evaluations that its own records cost at each time.
        clock: what time means.
    """

    vectors: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()
    records: ClassVar[tuple[str, ...]] = ()
    symmetric: ClassVar[bool] = False
    second_order: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    record_cost: ClassVar[int] = 0
    clock: ClassVar[str] = "t"

    @property
    def title(self) -> str:
        """Its name in sentences."""
        return type(self).__name__

    def check(self, objective: Any) -> None:
        """Refuse an objective that this dynamics has no meaning for; nothing is computed.

        Args:
            objective: L.

        Raises:
            ValueError: if it has none.
        """

    def start(self, problem: Any) -> dict[str, np.ndarray]:
        """What it carries at t = 0, on the host: zeros where nothing else is said.

        Args:
            problem: the problem.

        Returns:
            Arrays (P,) for the vectors and () for the numbers, by name.
        """
        theta = problem.start_on_host
        zeros = {name: np.zeros_like(theta) for name in self.vectors}
        return zeros | {name: np.zeros((), theta.dtype) for name in self.numbers}

    @abc.abstractmethod
    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """The right-hand side. What it evaluates besides one gradient, a subclass says.

        Args:
            problem: the problem, whose `value_and_grad` and `loss` are at hand.
            theta: the parameters.
            further: what the dynamics carries, by name.

        Returns:
            The rates.
        """

    def force(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Array:
        """F, whose Jacobian -H with respect to theta implicit solvers use: theta' itself.

        Args:
            problem: the problem.
            theta: the parameters.
            further: what the dynamics carries.

        Returns:
            (P,).
        """
        return self.rates(problem, theta, further).theta

    def damping(self, further: Mapping[str, Any]) -> Any:
        """g of a second-order dynamics where the flow stands.

        Args:
            further: what the flow carries, numbers of NumPy's or of JAX's.

        Returns:
            g, likewise; a first-order one has none.
        """
        del further
        return 0.0

    def recorded(
        self, problem: Any, thetas: np.ndarray, further: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What it records of some states, by the names of `records`; on the host.

        Args:
            problem: the problem.
            thetas: (m, P).
            further: arrays (m, P) and (m,), by name.

        Returns:
            Arrays (m, ...).
        """
        del problem, thetas, further
        return {}

    def balance(self, fell: np.ndarray, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What integrals of its own among its records are on the exact flow, from other records.

        Args:
            fell: L(0) - L(t), (m,).
            records: its records, (m, ...).

        Returns:
            Arrays (m,), by name.
        """
        del fell, records
        return {}

    def stiffness(self, horizon: float, sharpness: float) -> float:
        """The number by which `solver="auto"` tells stiff flows: T x sharpness.

        Args:
            horizon: the end T.
            sharpness: the largest eigenvalue of the Hessian at the start, at least 0.

        Returns:
            The number, to compare with that of a plain flow.
        """
        return horizon * sharpness

    def sharpness(self, stiffness: float) -> float:
        """The sharpness from which on a unit of time has some stiffness, at least.

        Args:
            stiffness: of a unit of time, see `stiffness`.

        Returns:
            The sharpness.
        """
        return stiffness

    @property
    def plain(self) -> bool:
        """Whether it is the gradient flow, for which solvers have a way of their own."""
        return False

    def size(self, length: int) -> int:
        """P, from the length of a state as one vector."""
        return (length - 2 - len(self.numbers)) // (1 + len(self.vectors))

    def named(self, further: tuple[Array, ...]) -> dict[str, Array]:
        """What it carries, by name."""
        return dict(zip((*self.vectors, *self.numbers), further, strict=True))

    def state(self, y: Float[Array, " N"]) -> State:
        """The state of one vector: theta, vectors, numbers, arc length, energy, in this order."""
        integrals = Quadratures(y[-2], y[-1])
        if not (self.vectors or self.numbers):
            return y[:-2], integrals
        size, first = self.size(y.size), len(self.vectors) + 1
        vectors = [y[i * size : (i + 1) * size] for i in range(1, first)]
        return y[:size], integrals, (*vectors, *(y[first * size + i] for i in self._places))

    @property
    def _places(self) -> range:
        return range(len(self.numbers))

    def parts(self, states: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Thetas and all that is carried besides the integrals, of states as vectors (m, N)."""
        size, first = self.size(states.shape[-1]), len(self.vectors) + 1
        found = {
            name: states[:, (i + 1) * size : (i + 2) * size] for i, name in enumerate(self.vectors)
        }
        found |= {name: states[:, first * size + i] for i, name in enumerate(self.numbers)}
        return states[:, :size], found


def flat(state: State) -> Float[Array, " N"]:
    """A state as one vector, see `AbstractDynamics.state`.

    Args:
        state: theta, the integrals, and what else there is.

    Returns:
        (N,).
    """
    theta, integrals, *more = state
    further = [jnp.atleast_1d(part) for part in (more[0] if more else ())]
    ends = (integrals.arc_length[None], integrals.energy[None])
    return jnp.concatenate([theta, *further, *ends])


def derivative(dynamics: AbstractDynamics, problem: Any, state: State) -> tuple[Rates, State]:
    """The rates of a state of any dynamics but the plain flow, which has a way of its own.

    The rate of the arc length stays differentiable at rest, for implicit solvers.

    Args:
        dynamics: the dynamics.
        problem: the problem.
        state: theta, the integrals, and what else there is.

    Returns:
        What the dynamics says, and the rates in the form of the state.
    """
    theta, _, *more = state
    found = dynamics.rates(problem, theta, dynamics.named(more[0] if more else ()))
    moved = problem.coordinates.theta(found.theta)
    speed = jnp.sqrt(moved @ moved + jnp.finfo(theta.dtype).tiny)
    integrals = Quadratures(speed, found.energy.astype(theta.dtype))
    names = (*dynamics.vectors, *dynamics.numbers)
    further = tuple(jnp.asarray(found.further[name], theta.dtype) for name in names)
    return found, (found.theta, integrals, further) if names else (found.theta, integrals)


@register("dynamics", "gradient-flow")
@read_plainly
class GradientFlow(AbstractDynamics):
    """theta' = -grad L(theta), the default."""

    symmetric: ClassVar[bool] = True

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient."""
        loss, gradient = problem.value_and_grad(theta)
        squared = gradient @ gradient
        return Rates(loss, jnp.sqrt(squared), -gradient, {}, squared)

    @property
    def plain(self) -> bool:
        """It is."""
        return True


def in_precision_of(dynamics: AbstractDynamics, precision: str) -> AbstractDynamics:
    """A dynamics whose numbers are arrays of a precision.

    Args:
        dynamics: the dynamics.
        precision: "float64" or "float32".

    Returns:
        The dynamics.
    """
    return jax.tree.map(lambda number: jnp.asarray(number, precision), dynamics)


def check_dynamics(dynamics: Any) -> None:
    """Refuse what is no dynamics.

    Args:
        dynamics: the candidate.

    Raises:
        ValueError: if it is something else.
    """
    if not isinstance(dynamics, AbstractDynamics):
        raise ValueError(
            f"Argument `dynamics` must be a dynamics such as flowlift.flow.HeavyBall(friction=1.0),"
            f" but is {dynamics!r:.80}; see flowlift.flow.dynamics, or leave it out."
        )


def check_number(name: str, value: Any, least: float, *, strictly: bool = False) -> None:
    """Refuse a number of a dynamics that is out of range.

    Args:
        name: of the field.
        value: its value.
        least: the least number.
        strictly: whether that one is refused too.

    Raises:
        ValueError: if it is no finite number in range.
    """
    number = real(value)
    if number is None or not (number > least if strictly else number >= least):
        rule = "a positive number" if strictly else f"a number of at least {least:g}"
        raise ValueError(
            f"Argument `{name}` must be {rule}, but is {value!r}; see flowlift.flow.dynamics."
        )
    if number == float("inf"):
        raise ValueError(f"Argument `{name}` must be finite, but is {value!r}; lower it.")


def check_apart_from(observers: Mapping[str, Any] | None, dynamics: AbstractDynamics) -> None:
    """Refuse an observer of a name that a dynamics records under.

    Args:
        observers: by name.
        dynamics: the dynamics.

    Raises:
        ValueError: if there is one.
    """
    for name in observers or {}:
        if name in dynamics.records:
            raise ValueError(
                f"Argument `observers` must not have a name that {dynamics.title} records under, "
                f"but has {name!r}; rename it, e.g. {f'my_{name}'!r}."
            )
