"""Optimisers whose steps are compared with flows: the step, and the time that it takes."""

import dataclasses
from typing import Any

from ..numbers import real
from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class Optimiser:
    """An optimiser of optax on the time axis of a flow.

    Attributes:
        name: a short name.
        transformation: optax's `GradientTransformation`, learning rate included.
        time: how much time of the flow a step takes.
    """

    name: str
    transformation: Any
    time: float

    def __post_init__(self) -> None:
        """Refuse what has no steps or takes no time.

        Raises:
            ValueError: for either.
        """
        if not all(callable(getattr(self.transformation, n, None)) for n in ("init", "update")):
            raise ValueError(
                "Argument `transformation` must be an optax.GradientTransformation, but is of type "
                f"{type(self.transformation).__name__}; give e.g. optax.lion(1e-3)."
            )
        _check("time", self.time)


def gradient_descent(step_size: float) -> Optimiser:
    """theta <- theta - eta grad L: t = eta k on the gradient flow and its central flow.

    Args:
        step_size: eta.

    Returns:
        The optimiser.
    """
    eta = _check("step_size", step_size)
    return Optimiser("gradient descent", _optax().sgd(eta), eta)


def momentum(step_size: float, decay: float, *, nesterov: bool = False) -> Optimiser:
    """v <- b v + grad L, theta <- theta - eta v: t = sqrt(eta) k on the heavy ball's flow.

    With h = sqrt(eta) it is theta'' + g theta' + grad L = 0 in steps of h, g = (1 - b) / h.

    Args:
        step_size: eta.
        decay: b.
        nesterov: whether the gradient is taken ahead.

    Returns:
        The optimiser.
    """
    eta, b = _check("step_size", step_size), _check("decay", decay, 1.0)
    name = "nesterov momentum" if nesterov else "momentum"
    return Optimiser(name, _optax().sgd(eta, b, nesterov), eta**0.5)


def adam(step_size: float, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> Optimiser:
    """Adam: t = eta k.

    Args:
        step_size: eta.
        b1: decay of the mean gradient.
        b2: decay of the mean squared gradient.
        epsilon: e.

    Returns:
        The optimiser.
    """
    eta = _check("step_size", step_size)
    rates = _check("b1", b1, 1.0), _check("b2", b2, 1.0), _check("epsilon", epsilon)
    return Optimiser("adam", _optax().adam(eta, *rates), eta)


def rmsprop(
    step_size: float, decay: float, initial: float = 0.0, epsilon: float = 1e-8
) -> Optimiser:
    """v <- b v + (1 - b) (grad L)^2, theta <- theta - eta grad L / (sqrt(v) + e): t = eta k.

    Args:
        step_size: eta.
        decay: b.
        initial: v before the first step.
        epsilon: e, outside of the root.

    Returns:
        The optimiser.
    """
    eta, b = _check("step_size", step_size), _check("decay", decay, 1.0)
    made = _optax().rmsprop(
        eta, b, _check("epsilon", epsilon), initial_scale=float(initial), eps_in_sqrt=False
    )
    return Optimiser("rmsprop", made, eta)


def _check(name: str, value: Any, below: float = float("inf")) -> float:
    number = real(value)
    if number is None or not 0 < number < below:
        bound = "finite" if below == float("inf") else f"below {below:g}"
        raise ValueError(
            f"Argument `{name}` must be positive and {bound}, but is {value!r}; correct it."
        )
    return number


def _optax() -> Any:
    try:
        import optax
    except ImportError as error:
        raise ImportError(
            "Comparing with the steps of an optimiser needs optax, which is not installed; run pip "
            "install 'flowlift[optax]'."
        ) from error
    return optax
