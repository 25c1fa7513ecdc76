"""What a study observes along its flows: named quantities on a schedule of their own.

A quantity in a study file has a `kind` and the arguments of its own function in `diagnostics`. It
is measured on snapshots after the flow, so that it has no part in the flow's cost or decisions.
"""

import dataclasses
import inspect
import time
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Float

from .. import diagnostics
from ..diagnostics import Series
from ..flow import FlowSolution, LogTimes
from ..flow.dataset import TIME
from ..flow.observers import check_name, dims_of
from ..lift import Lift
from ..tasks import SquaredLoss, Supervised, Task

OBSERVED = "observation_time"
# What a study gives: a file cannot.
_GIVEN = ("model", "task", "reference", "trainable")
# What a study file means where it leaves these out, as when files with them were first written:
# the values are in the identities of their runs. The functions' own defaults ask for more.
_EARLIER = {
    "sharpness": {"rtol": 1e-3, "max_products": 59},
    "curvatures": {"rtol": 1e-3, "max_products": 59},
    "hessian_top": {"rtol": 1e-3},
    "kernel_top": {"rtol": 1e-3},
    "kernel_ends": {"rtol": 1e-3, "max_products": 64},
}


def _quantity(name: str, function: Callable, unit: str, *leave_out: str) -> type:
    """A frozen dataclass, named like the quantity, whose fields are its function's arguments."""
    parameters = inspect.signature(function).parameters
    fields = [
        (p.name, p.annotation, _default(p, _EARLIER.get(name, {})))
        for p in parameters.values()
        if p.name not in (*_GIVEN, *leave_out)
    ]

    def measure(self, models: Mapping[float, Lift], task: Task) -> Series:
        given: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "reference" in parameters:
            given["reference"] = models[0.0]
        return diagnostics.measure_along(models, diagnostics.observer(name, task, **given))

    body = {"measure": measure, "meaning": name.replace("_", " "), "unit": unit}
    words = "".join(word.capitalize() for word in name.split("_"))
    cls = dataclasses.make_dataclass(words, fields, frozen=True, kw_only=True, namespace=body)
    cls.__doc__, cls.__module__ = inspect.getdoc(function), __name__
    return cls


def _default(parameter: inspect.Parameter, earlier: Mapping[str, Any]) -> Any:
    if parameter.name in earlier:
        return dataclasses.field(default=earlier[parameter.name])
    if parameter.default is inspect.Parameter.empty:
        return dataclasses.field()
    return dataclasses.field(default=parameter.default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LazyDistance:
    """|F_theta(t) - F_lin(t)| in L^2(D), F_lin the flow linearised at the start.

    Attributes:
        rtol: of the linearised flow, relative to |r_0|.
        max_products: at most so many products with K, 2 gradients each.
    """

    rtol: float = 1e-8
    max_products: int = 300
    meaning: typing.ClassVar[str] = "distance of the outputs to those of the linearised flow"
    unit: typing.ClassVar[str] = "output"

    def measure(self, models: Mapping[float, Lift], task: Task) -> Series:
        """The distance at some snapshots, the start among them.

        Args:
            models: models by time.
            task: the task of the flow.

        Returns:
            The series.
        """
        flow = diagnostics.linearised_flow(
            models[0.0], task, max(models) or 1.0, rtol=self.rtol, max_products=self.max_products
        )
        distances = diagnostics.lazy_distance(flow, models)
        times = np.array(list(models))
        cost = 1 + 2 * int(flow.products) + len(models)
        return Series(
            times, np.asarray(distances), cost, np.asarray(flow.error(jnp.asarray(times)))
        )


_RADIUS = _quantity("tangent_radius", diagnostics.tangent_radius, "parameter")
_FLOOR = _quantity("tangent_floor", diagnostics.tangent_curve, "loss", "eps")
QUANTITIES = (
    _RADIUS,
    _FLOOR,
    _quantity("rayleigh", diagnostics.rayleigh, "1 / time"),
    _quantity("sharpness", diagnostics.hessian_ends, "loss / parameter^2"),
    _quantity("curvatures", diagnostics.hessian_ends, "loss / parameter^2"),
    _quantity("hessian_top", diagnostics.hessian_top, "loss / parameter^2"),
    _quantity("kernel_top", diagnostics.kernel_top, "1 / time"),
    _quantity("kernel_ends", diagnostics.kernel_ends, "1 / time"),
    _quantity("kernel_trace", diagnostics.kernel_moments, "1 / time"),
    _quantity("effective_rank", diagnostics.effective_rank, "1"),
    _quantity("kernel_drift", diagnostics.kernel_drift, "1"),
    _quantity("alignment", diagnostics.kernel_alignment, "1"),
    LazyDistance,
)
_SQUARED = (_RADIUS, _FLOOR, LazyDistance)
if typing.TYPE_CHECKING:
    Quantity = Any
else:
    Quantity = typing.Union[QUANTITIES]  # noqa: UP007


@dataclasses.dataclass(frozen=True)
class ObservationPlan:
    """Which quantities are observed, and when."""

    quantities: dict[str, Quantity]
    """Quantities by the name under which they are stored."""
    per_decade: int = 1
    """Observation times per decade of t; 0 observes the start alone. The start is always one."""
    first_time: float | None = None
    """The first observation time after 0; none: 1e-6 of the horizon."""

    def __post_init__(self):
        """Refuse names that results already use or that are none.

        Raises:
            ValueError: for such a name, or no quantity at all.
        """
        if not self.quantities:
            raise ValueError(
                "Argument `quantities` must name a quantity, but is empty; give e.g. "
                'kappa = { kind = "tangent_radius", eps = 0.01 }, or leave the table out.'
            )
        beside = {f"{n}_{word}" for n in self.quantities for word in ("gradients", "uncertainty")}
        for name in self.quantities:
            check_name(name, "quantities")
            if not name.isidentifier() or name in beside:
                raise ValueError(
                    f"Argument `quantities` must have names of letters that results do not use, "
                    f"but has {name!r}; rename it."
                )

    def times(self, horizon: float) -> Float[np.ndarray, " times"]:
        """The observation times, 0 included.

        Args:
            horizon: the end T of the flow.

        Returns:
            Increasing times, the last one T unless the start alone is observed.

        Raises:
            ValueError: if the schedule does not fit the horizon.
        """
        if not self.per_decade:
            return np.zeros(1)
        return np.append(0.0, LogTimes(self.per_decade, self.first_time).times(horizon))

    def check(self, task: Task) -> None:
        """Refuse quantities that the task's loss does not have.

        Args:
            task: the study's task.

        Raises:
            ValueError: for a quantity of squared loss on another one.
        """
        objective = task.objective
        squared = isinstance(objective, Supervised) and isinstance(objective.loss, SquaredLoss)
        wrong = [name for name, q in self.quantities.items() if isinstance(q, _SQUARED)]
        if wrong and not squared:
            raise ValueError(
                f"Argument `quantities` must be defined for the task's loss, but {wrong} need "
                "squared loss; leave them out."
            )


def observe(
    plan: ObservationPlan, start: Lift, task: Task, solution: FlowSolution, horizon: float
) -> xarray.Dataset:
    """Measure a plan's quantities at the start and at a flow's snapshots.

    Args:
        plan: the plan.
        start: the lift at t = 0.
        task: the task.
        solution: its flow, with snapshots at the plan's times.
        horizon: the horizon for which the flow was planned.

    Returns:
        Each quantity along `observation_time`, NaN where the flow had ended before; how far it may
        be off as `<name>_uncertainty` (of eigenvalues the residuals); its whole cost in gradients
        as `<name>_gradients`; the seconds of all as `observation_seconds`.
    """
    clock = time.perf_counter()
    times = plan.times(horizon)
    models = {0.0: start} | {t: solution.snapshots[t] for t in times if t in solution.snapshots}
    data = xarray.Dataset(coords={OBSERVED: list(models)})
    for name, quantity in plan.quantities.items():
        series = quantity.measure(models, task)
        meaning = {"long_name": quantity.meaning, "units": quantity.unit}
        cost = {"long_name": f"gradients spent on {name}, not in `gradients`", "units": "1"}
        dims = (OBSERVED, *dims_of(name, series.values.shape[1:]))
        # A time that was not reached is NaN, which whole numbers do not have.
        number = np.result_type(series.values, np.float64)
        data[name] = (dims, series.values.astype(number), meaning)
        if series.uncertainty is not None:
            off = {"long_name": f"how far {name} may be off", "units": quantity.unit}
            data[f"{name}_uncertainty"] = (dims, series.uncertainty.astype(float), off)
        data[f"{name}_gradients"] = ((), series.gradients, cost)
    data = data.reindex({OBSERVED: times})
    data[OBSERVED].attrs = TIME | {"long_name": "flow time t of observations"}
    seconds = {"long_name": "wall time of the observations, compilation included", "units": "s"}
    return data.assign(observation_seconds=((), time.perf_counter() - clock, seconds))
