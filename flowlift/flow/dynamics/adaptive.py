"""Flows of Adam and of RMSProp: averages of the gradient and of its squares."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...numbers import plain_fields
from ...registry import register
from .base import AbstractDynamics, Further, Rates, check_number


@register("dynamics", "adam")
@plain_fields
class Adam(AbstractDynamics):
    """tau_1 m' = g - m, tau_2 v' = g^2 - v, theta' = -m^ / (v^^(1/2) + eps), g = grad L.

    m^ = m / (1 - exp(-t / tau_1)) and v^ = v / (1 - exp(-t / tau_2)) are unbiased, and equal to g
    and g^2 at t = 0, where the flow is regular. With steps of a learning rate eta, t = eta x steps
    and tau = eta / (1 - beta). Where v^ = 0 and eps = 0 nothing moves. With rates D, theta' is D
    times that, of the same gradient g.

    Errors of m and v are controlled like those of theta, with the same `atol`: give one below the
    squares of the gradients that matter. The Jacobian is not symmetric. One gradient.

    Attributes:
        tau_1: time over which gradients are averaged, > 0.
        tau_2: time over which their squares are, > 0.
        epsilon: eps >= 0.
    """

    vectors: ClassVar[tuple[str, ...]] = ("first", "second")
    numbers: ClassVar[tuple[str, ...]] = ("clock",)

    tau_1: float
    tau_2: float
    epsilon: float = 0.0

    def __check_init__(self) -> None:
        """Refuse times that are not positive, and a negative eps.

        Raises:
            ValueError: for one of them.
        """
        check_number("tau_1", self.tau_1, 0.0, strictly=True)
        check_number("tau_2", self.tau_2, 0.0, strictly=True)
        check_number("epsilon", self.epsilon, 0.0)

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient."""
        loss, slope = problem.value_and_grad(theta)
        gradient, time = problem.coordinates.phi(slope), further["clock"]
        first = unbiased(further["first"], gradient, time / self.tau_1)
        second = unbiased(further["second"], gradient**2, time / self.tau_2)
        move = -problem.coordinates.theta(normalised(first, second, self.epsilon))
        rates = {
            "first": (gradient - further["first"]) / self.tau_1,
            "second": (gradient**2 - further["second"]) / self.tau_2,
            "clock": jnp.ones_like(time),
        }
        return Rates(loss, jnp.sqrt(slope @ slope), move, rates, -(slope @ move))


@register("dynamics", "rmsprop")
@plain_fields
class RMSProp(AbstractDynamics):
    """tau v' = g^2 - v, theta' = -g / (v^^(1/2) + eps), g = grad L, v^ = v / (1 - exp(-t / tau)).

    Adam's flow without its average of gradients; see `Adam` for the conversion of time and for
    tolerances. One gradient.

    Attributes:
        tau: time over which squares of gradients are averaged, > 0.
        epsilon: eps >= 0.
    """

    vectors: ClassVar[tuple[str, ...]] = ("second",)
    numbers: ClassVar[tuple[str, ...]] = ("clock",)

    tau: float
    epsilon: float = 0.0

    def __check_init__(self) -> None:
        """Refuse a time that is not positive, and a negative eps.

        Raises:
            ValueError: for one of them.
        """
        check_number("tau", self.tau, 0.0, strictly=True)
        check_number("epsilon", self.epsilon, 0.0)

    def rates(self, problem: Any, theta: Float[Array, " P"], further: Further) -> Rates:
        """One gradient."""
        loss, slope = problem.value_and_grad(theta)
        gradient, time = problem.coordinates.phi(slope), further["clock"]
        second = unbiased(further["second"], gradient**2, time / self.tau)
        move = -problem.coordinates.theta(normalised(gradient, second, self.epsilon))
        rates = {
            "second": (gradient**2 - further["second"]) / self.tau,
            "clock": jnp.ones_like(time),
        }
        return Rates(loss, jnp.sqrt(slope @ slope), move, rates, -(slope @ move))


def unbiased(average: Array, now: Array, age: Array) -> Array:
    """An average from 0 divided by the weight that it has gathered; what is averaged, at age 0.

    Args:
        average: the average, (P,).
        now: what is averaged, (P,).
        age: t / tau.

    Returns:
        (P,).
    """
    still = age <= 0
    weight = -jnp.expm1(-jnp.where(still, 1.0, age))
    return jnp.where(still, now, average / weight)


def normalised(first: Array, second: Array, epsilon: Any) -> Array:
    """m / (|v|^(1/2) + eps), and 0 where that is 0 / 0.

    No exact flow has v < 0, but stages of a step have where gradients begin at 0, as below a
    read-out of zeros: the field goes on there, and the error of the step is judged as ever.

    Args:
        first: m.
        second: v.
        epsilon: eps.

    Returns:
        (P,).
    """
    # The root has no derivative at 0.
    nothing = second == 0
    root = jnp.where(nothing, 0.0, jnp.sqrt(jnp.where(nothing, 1.0, jnp.abs(second))))
    scale = root + epsilon
    empty = scale == 0
    return jnp.where(empty, 0.0, first / jnp.where(empty, 1.0, scale))
