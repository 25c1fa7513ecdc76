"""Second-order flows: the heavy ball, and the flow of Nesterov's accelerated gradient method."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...numbers import plain_fields
from ...registry import register
from .base import AbstractDynamics, Further, Rates, check_number


class AbstractMomentum(AbstractDynamics):
    """theta' = v, v' = -g v - grad L(theta), from rest: v(0) = 0.

    With E = L + |v|^2 / 2, dE/dt = -g |v|^2: `dissipated`, the integral of g |v|^2, is what E has
    lost. Records `kinetic`, |v|^2 / 2, and `dissipated`. With rates D it is theta'' + g theta' +
    D grad L = 0, and |v|^2 is <theta', D^(-1) theta'>. One gradient.
    """

    vectors: ClassVar[tuple[str, ...]] = ("velocity",)
    records: ClassVar[tuple[str, ...]] = ("kinetic", "dissipated")
    second_order: ClassVar[bool] = True

    friction: eqx.AbstractVar[Any]

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient."""
        loss, gradient = problem.value_and_grad(theta)
        velocity = further["velocity"]
        return self._rates(loss, gradient, velocity, further)

    def _rates(self, loss, gradient, velocity, further: Further) -> Rates:
        g = self.damping(further)
        rates = {
            "velocity": -g * velocity - gradient,
            "dissipated": g * (velocity @ velocity),
        }
        norm = jnp.sqrt(gradient @ gradient)
        return Rates(loss, norm, velocity, rates, -(gradient @ velocity))

    def force(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Array:
        """-grad L."""
        return -problem.value_and_grad(theta)[1]

    def recorded(
        self, problem: Any, thetas: np.ndarray, further: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The kinetic energy, and what friction has taken."""
        kinetic = 0.5 * np.sum(further["velocity"] ** 2, axis=1)
        return {"kinetic": kinetic, "dissipated": further["dissipated"].copy()}

    def balance(self, fell: np.ndarray, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What L has lost and is no kinetic energy, friction has taken."""
        return {"dissipated": fell - records["kinetic"]}

    def stiffness(self, horizon: float, sharpness: float) -> float:
        """T sqrt(sharpness): explicit methods follow the fastest oscillation."""
        return horizon * sharpness**0.5

    def sharpness(self, stiffness: float) -> float:
        """The square."""
        return stiffness**2


@register("dynamics", "heavy-ball")
@plain_fields
class HeavyBall(AbstractMomentum):
    """theta'' + g theta' + grad L(theta) = 0 with constant friction, from rest.

    Attributes:
        friction: g >= 0.
    """

    numbers: ClassVar[tuple[str, ...]] = ("dissipated",)

    friction: float

    def __check_init__(self) -> None:
        """Refuse a negative friction, under which a flow gains energy.

        Raises:
            ValueError: if it is no number of at least 0.
        """
        check_number("friction", self.friction, 0.0)

    def damping(self, further: Mapping[str, Any]) -> Any:
        """g."""
        return self.friction


@register("dynamics", "nesterov")
@plain_fields
class Nesterov(AbstractMomentum):
    """theta'' + (c / t) theta' + grad L(theta) = 0 from rest (Su, Boyd, Candes 2016, (3)).

    At t = 0 the solution is regular: theta'' = -grad L / (1 + c).

    Attributes:
        friction: c > 0, 3 for Nesterov's method.
    """

    numbers: ClassVar[tuple[str, ...]] = ("clock", "dissipated")

    friction: float = 3.0

    def __check_init__(self) -> None:
        """Refuse what is no positive number.

        Raises:
            ValueError: if `friction` is none.
        """
        check_number("friction", self.friction, 0.0, strictly=True)

    def damping(self, further: Mapping[str, Any]) -> Any:
        """c / t; infinite at 0."""
        return self.friction / further["clock"]

    def _rates(self, loss, gradient, velocity, further: Further) -> Rates:
        time, one = further["clock"], jnp.ones_like(further["clock"])
        # At t = 0, where v = 0, v' = -grad L - c v' by the rule of l'Hospital.
        still = time <= 0
        later = {**further, "clock": jnp.where(still, one, time)}
        found = super()._rates(loss, gradient, velocity, later)
        fall = jnp.where(still, -gradient / (1 + self.friction), found.further["velocity"])
        return found._replace(further={**found.further, "velocity": fall, "clock": one})
