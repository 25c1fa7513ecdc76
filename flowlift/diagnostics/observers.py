"""Quantities as observers: along a flow, or on a schedule of their own with their cost counted."""

import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from ..flow.dynamics import AbstractDynamics
from ..flow.observers import AbstractObserver
from ..showing import shows_itself
from ..tasks import AbstractObjective, Task, resolve_objective
from .checks import check_concrete
from .imbalance import check_law, imbalance
from .overlaps import directions_of, student_overlaps, teacher_overlaps
from .rayleigh import rayleigh
from .sharpness import hessian_ends, hessian_top
from .tangent import tangent
from .tangent_approximation import tangent_curve
from .tangent_kernel import (
    kernel_alignment,
    kernel_change,
    kernel_ends,
    kernel_moments,
    kernel_top,
)


@shows_itself
class Measurement(eqx.Module):
    """A quantity with what it rests on.

    Attributes:
        value: the quantity, of any shape.
        uncertainty: how far off each value may be, of its shape. Of an eigenvalue the residual: an
            eigenvalue lies within it. Of a bracket its width. Of a random estimate its standard
            error. 0 where only rounding is left.
        settled: where the uncertainty is what was asked for, and no eigenvalue is missing.
        gradients: the cost (at most).
    """

    value: Array
    uncertainty: Array
    settled: Bool[Array, "..."]
    gradients: Array | int


def _exact(value: Array, gradients: Array | int) -> Measurement:
    return _estimate(value, jnp.zeros_like(value), gradients)


def _estimate(value: Array, uncertainty: Array, gradients: Array | int) -> Measurement:
    return Measurement(value, uncertainty, jnp.ones(value.shape, bool), gradients)


def _tangent_radius(model, task, eps, rtol=1e-6, **settings) -> Measurement:
    curve = tangent_curve(model, task, eps, rtol=rtol, **settings)
    radius = curve.kappa(eps)
    # The bound is one in any case; only its width may be larger than asked for.
    return _estimate(radius.kappa, radius.width, curve.gradients)


def _tangent_floor(model, task, **settings) -> Measurement:
    curve = tangent_curve(model, task, **settings)
    low, high = curve.floor
    return _estimate(high, high - low, curve.gradients)


def _rayleigh(model, task, **settings) -> Measurement:
    return _exact(rayleigh(model, task, **settings).quotient, 2)


def _ends(ends, rtol, gradients) -> Measurement:
    values = jnp.stack([ends.lowest, ends.highest])
    settled = ends.residuals <= rtol * jnp.max(jnp.abs(values))
    return Measurement(values, ends.residuals, settled, gradients)


def _sharpness(model, task, **settings) -> Measurement:
    both = _curvatures(model, task, **settings)
    return Measurement(both.value[1], both.uncertainty[1], both.settled[1], both.gradients)


def _curvatures(model, task, rtol=1e-6, **settings) -> Measurement:
    ends = hessian_ends(model, task, rtol=rtol, **settings)
    return _ends(ends, rtol, 3 + 2 * ends.products)


def _pairs(pairs, rtol, gradients) -> Measurement:
    settled = pairs.residuals <= rtol * jnp.max(jnp.abs(pairs.values))
    # The first is the largest whatever else there is.
    settled = settled & (pairs.complete | (jnp.arange(len(settled)) == 0))
    return Measurement(pairs.values, pairs.residuals, settled, gradients)


def _hessian_top(model, task, count, rtol=1e-6, **settings) -> Measurement:
    pairs = hessian_top(model, task, count, rtol=rtol, **settings)
    return _pairs(pairs, rtol, 3 + 2 * pairs.products)


def _kernel_top(model, task, count, rtol=1e-6, **settings) -> Measurement:
    pairs = kernel_top(model, task, count, rtol=rtol, **settings)
    return _pairs(pairs, rtol, 1 + 2 * pairs.products)


def _kernel_ends(model, task, rtol=1e-6, **settings) -> Measurement:
    ends = kernel_ends(model, task, rtol=rtol, **settings)
    return _ends(ends, rtol, 1 + 2 * ends.products)


def _kernel_trace(model, task, **settings) -> Measurement:
    both = kernel_moments(model, task, **settings)
    return _estimate(both.trace, both.trace_error, 1 + 2 * both.products)


def _effective_rank(model, task, **settings) -> Measurement:
    both = kernel_moments(model, task, **settings)
    return _estimate(both.effective_rank, both.effective_rank_error, 1 + 2 * both.products)


def _kernel_drift(model, task, reference, **settings) -> Measurement:
    change, first = kernel_change(model, task, reference, **settings)
    value = change.frobenius / first.frobenius
    parts = change.frobenius_error / change.frobenius, first.frobenius_error / first.frobenius
    error = value * jnp.hypot(*(jnp.where(value > 0, part, 0) for part in parts))
    return _estimate(value, error, 2 + 4 * change.products + 2 * first.products)


def _alignment(model, task, **settings) -> Measurement:
    both = kernel_alignment(model, task, **settings)
    values = jnp.stack([both.residual, both.target])
    return _estimate(values, jnp.abs(values) * both.relative_error, 3 + 2 * both.products)


def _student_overlaps(model, task) -> Measurement:
    return _exact(student_overlaps(model), 0)


def _teacher_overlaps(model, task, directions) -> Measurement:
    return _exact(teacher_overlaps(model, directions=directions), 0)


def _imbalance(model, task, rates=None) -> Measurement:
    return _exact(jnp.stack(imbalance(model, task, rates=rates).flat), 2)


def _outputs(model, task, **settings) -> Measurement:
    at = tangent(model, task, **settings)
    return _exact(at.outputs(at.theta), 1)


QUANTITIES: dict[str, Callable[..., Measurement]] = {
    "tangent_radius": _tangent_radius,
    "tangent_floor": _tangent_floor,
    "rayleigh": _rayleigh,
    "sharpness": _sharpness,
    "curvatures": _curvatures,
    "hessian_top": _hessian_top,
    "kernel_top": _kernel_top,
    "kernel_ends": _kernel_ends,
    "kernel_trace": _kernel_trace,
    "effective_rank": _effective_rank,
    "kernel_drift": _kernel_drift,
    "alignment": _alignment,
    "imbalance": _imbalance,
    "outputs": _outputs,
    "student_overlaps": _student_overlaps,
    "teacher_overlaps": _teacher_overlaps,
}


class Observer(AbstractObserver):
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
        """The quantity at a model, NaN where it has not settled."""
        return self.measure(model)[0]

    def check_flow(self, model: PyTree, dynamics: AbstractDynamics, rates: dict[str, float]):
        """Refuse a predicted rate of the imbalance that is not this flow's.

        Args:
            model: the model at the start.
            dynamics: how theta moves.
            rates: of each leaf of the model.

        Raises:
            ValueError: if it is not.
        """
        if self.name == "imbalance":
            check_law(model, dynamics, rates, self.arguments.get("rates"))

    def measure(self, model: PyTree) -> tuple[Array, Array | int]:
        """The quantity, NaN where it has not settled, and what it cost in gradients (at most)."""
        found = self.examine(model)
        return jnp.where(found.settled, found.value, jnp.nan), found.gradients

    def examine(self, model: PyTree) -> Measurement:
        """The quantity as it is, with its uncertainty and whether it has settled."""
        return QUANTITIES[self.name](model, self.objective, **self.arguments)


def observer(quantity: str, task: Task | AbstractObjective | Callable, **arguments) -> Observer:
    """An observer of one quantity.

    In a flow's record an eigenvalue that has not settled within its products (`rtol`,
    `max_products`) is NaN; `measure_along` and `Observer.examine` give it with its residual.

    Args:
        quantity: "tangent_radius" (kappa(eps), upper bound; needs `eps`), "tangent_floor",
            "rayleigh", "sharpness", "curvatures" (least and largest), "hessian_top" (needs
            `count`), "kernel_top" (needs `count`), "kernel_ends", "kernel_trace",
            "effective_rank", "kernel_drift" (needs `reference`, a model), "alignment" (with the
            residual and the target), "student_overlaps" (Q), "teacher_overlaps" (R; `directions`
            are the task's own if left out), "imbalance" (of every unit, with its rate, (2, units))
            or "outputs" (in L^2(D)): the names that study files use.
        task: the task of the flow.
        arguments: keywords of the quantity's own function.

    Returns:
        A function of the model that works under `jax.jit`.

    Raises:
        ValueError: for an unknown quantity.
    """
    name = quantity.replace(" ", "_") if isinstance(quantity, str) else quantity
    if name not in QUANTITIES:
        raise ValueError(
            f"Argument `quantity` must be one of {', '.join(QUANTITIES)}, but is {quantity!r}; "
            "choose one of them, or write a function of the model."
        )
    if name == "teacher_overlaps" and "directions" not in arguments:
        arguments["directions"] = directions_of(task)
    return Observer(name, resolve_objective(task), arguments)


@shows_itself
@dataclasses.dataclass(frozen=True)
class Series:
    """A quantity at some times, measured after the flow.

    Attributes:
        times: the times.
        values: the quantity there, (times, ...).
        gradients: its whole cost in gradients (at most), apart from the flow's own; NaN where it
            is not known.
        uncertainty: how far off each value may be (see `Measurement`), of the shape of the
            values; None where the quantity does not say.
        settled: where the uncertainty is what was asked for; None where there is none.
    """

    times: np.ndarray
    values: np.ndarray
    gradients: float
    uncertainty: np.ndarray | None = None
    settled: np.ndarray | None = None


def measure_along(models: Mapping[float, PyTree], quantity: Observer) -> Series:
    """Measure a quantity at snapshots, on a schedule independent of the save times.

    Args:
        models: models by time, e.g. `solution.snapshots`.
        quantity: an observer.

    Returns:
        The series, with the uncertainty of each value. Equal shapes share one compilation.

    Raises:
        ValueError: if there are no models, `quantity` is no observer, or inside `jax.jit`.
    """
    check_concrete("measure_along", dict(models))
    if not isinstance(quantity, Observer):
        raise ValueError(
            "Argument `quantity` must be an observer, but is of type "
            f"{type(quantity).__name__}; make it by diagnostics.observer."
        )
    if not models:
        raise ValueError(
            "Argument `models` must hold at least one model, but is empty; pass `snapshots=[...]` "
            "to solve."
        )
    found = [_measured(quantity, model) for model in models.values()]
    values, uncertainty, settled = (
        np.stack([np.asarray(getattr(one, name)) for one in found])
        for name in ("value", "uncertainty", "settled")
    )
    gradients = sum(int(one.gradients) for one in found)
    return Series(np.array(list(models)), values, gradients, uncertainty, settled)


@eqx.filter_jit
def _measured(quantity: Observer, model: PyTree) -> Measurement:
    return quantity.examine(model)
