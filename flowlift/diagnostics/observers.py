"""Quantities as observers: along a flow, or on a schedule of their own with their cost counted."""

import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..flow.solve import resolve_objective
from ..tasks import AbstractObjective, Task
from .rayleigh import rayleigh
from .sharpness import hessian_ends, hessian_top
from .tangent import tangent
from .tangent_approximation import tangent_curve
from .tangent_kernel import (
    effective_rank,
    kernel_alignment,
    kernel_drift,
    kernel_ends,
    kernel_moments,
    kernel_top,
)

Measured = tuple[Array, Array | int]


def _tangent_radius(model, task, eps, **settings) -> Measured:
    curve = tangent_curve(model, task, eps, **settings)
    return curve.kappa(eps).kappa, curve.gradients


def _tangent_floor(model, task, **settings) -> Measured:
    curve = tangent_curve(model, task, **settings)
    return curve.upper.floor, curve.gradients


def _rayleigh(model, task, **settings) -> Measured:
    return rayleigh(model, task, **settings).quotient, 2


def _sharpness(model, task, **settings) -> Measured:
    ends = hessian_ends(model, task, **settings)
    return ends.highest, 3 + 2 * ends.products


def _curvatures(model, task, **settings) -> Measured:
    ends = hessian_ends(model, task, **settings)
    return jnp.stack([ends.lowest, ends.highest]), 3 + 2 * ends.products


def _hessian_top(model, task, count, **settings) -> Measured:
    pairs = hessian_top(model, task, count, **settings)
    return pairs.values, 3 + 2 * pairs.products


def _kernel_top(model, task, count, **settings) -> Measured:
    pairs = kernel_top(model, task, count, **settings)
    return pairs.values, 1 + 2 * pairs.products


def _kernel_ends(model, task, **settings) -> Measured:
    ends = kernel_ends(model, task, **settings)
    return jnp.stack([ends.lowest, ends.highest]), 1 + 2 * ends.products


def _kernel_trace(model, task, **settings) -> Measured:
    both = kernel_moments(model, task, **settings)
    return both.trace, 1 + 2 * both.products


def _effective_rank(model, task, products=48, **settings) -> Measured:
    return effective_rank(model, task, products=products, **settings), 1 + 2 * products


def _kernel_drift(model, task, reference, products=48, **settings) -> Measured:
    value = kernel_drift(model, task, reference, products=products, **settings)
    return value, 2 + 6 * products


def _alignment(model, task, products=48, **settings) -> Measured:
    both = kernel_alignment(model, task, products=products, **settings)
    return jnp.stack([both.residual, both.target]), 3 + 2 * products


def _outputs(model, task, **settings) -> Measured:
    at = tangent(model, task, **settings)
    return at.outputs(at.theta), 1


QUANTITIES: dict[str, Callable[..., Measured]] = {
    "tangent radius": _tangent_radius,
    "tangent floor": _tangent_floor,
    "rayleigh": _rayleigh,
    "sharpness": _sharpness,
    "curvatures": _curvatures,
    "hessian top": _hessian_top,
    "kernel top": _kernel_top,
    "kernel ends": _kernel_ends,
    "kernel trace": _kernel_trace,
    "effective rank": _effective_rank,
    "kernel drift": _kernel_drift,
    "alignment": _alignment,
    "outputs": _outputs,
}


class Observer(eqx.Module):
    """A quantity of a model on a fixed task: a function for `solve(observers={name: ...})`.

    A pytree: the task's data and arguments such as a reference model are arrays inside.

    Attributes:
        name: of the quantity.
        objective: the task's objective.
        arguments: of the quantity's own function.
    """

    name: str = eqx.field(static=True)
    objective: AbstractObjective
    arguments: dict[str, PyTree]

    def __call__(self, model: PyTree) -> Array:
        """The quantity at a model."""
        return self.measure(model)[0]

    def measure(self, model: PyTree) -> Measured:
        """The quantity, and what it cost in gradients (at most)."""
        return QUANTITIES[self.name](model, self.objective, **self.arguments)


def observer(quantity: str, task: Task | AbstractObjective | Callable, **arguments) -> Observer:
    """An observer of one quantity.

    Args:
        quantity: "tangent radius" (kappa(eps), upper bound; needs `eps`), "tangent floor",
            "rayleigh", "sharpness", "curvatures" (least and largest), "hessian top" (needs
            `count`), "kernel top" (needs `count`), "kernel ends", "kernel trace", "effective
            rank", "kernel drift" (needs `reference`, a model), "alignment" (with the residual and
            the target) or "outputs" (in L^2(D)).
        task: the task of the flow.
        arguments: keywords of the quantity's own function.

    Returns:
        A function of the model that works under `jax.jit`.

    Raises:
        ValueError: for an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(
            f"Argument `quantity` must be one of {', '.join(QUANTITIES)}, but is {quantity!r}; "
            "choose one of them, or write a function of the model."
        )
    return Observer(quantity, resolve_objective(task), arguments)


@dataclasses.dataclass(frozen=True)
class Series:
    """A quantity at some times, measured after the flow.

    Attributes:
        times: the times.
        values: the quantity there, (times, ...).
        gradients: its whole cost in gradients (at most), apart from the flow's own.
    """

    times: np.ndarray
    values: np.ndarray
    gradients: int


def measure_along(models: Mapping[float, PyTree], quantity: Observer) -> Series:
    """Measure a quantity at snapshots, on a schedule independent of the save times.

    Args:
        models: models by time, e.g. `solution.snapshots`.
        quantity: an observer.

    Returns:
        The series. Equal shapes share one compilation.

    Raises:
        ValueError: if there are no models.
    """
    if not models:
        raise ValueError(
            "Argument `models` must hold at least one model, but is empty; pass `snapshots=[...]` "
            "to solve."
        )
    measured = [_measured(quantity, model) for model in models.values()]
    values = np.stack([np.asarray(value) for value, _ in measured])
    return Series(np.array(list(models)), values, sum(int(cost) for _, cost in measured))


@eqx.filter_jit
def _measured(quantity: Observer, model: PyTree) -> Measured:
    return quantity.measure(model)
