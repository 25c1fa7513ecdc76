"""What a study observes along its flows: named quantities on a schedule of their own.

A quantity in a study file has a `kind` and the arguments of its own function in `diagnostics`. It
is measured on snapshots after the flow, so that it has no part in the flow's cost or decisions.
"""

import dataclasses
import inspect
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Float, PyTree

from .. import diagnostics
from ..diagnostics import Series
from ..diagnostics.imbalance import check_law_of_dynamics
from ..flow import FlowSolution, LogTimes, Rates
from ..flow.dynamics import AbstractDynamics
from ..flow.observers import check_name, dims_of
from ..flow.rates import all_rates
from ..flow.units import TIME
from ..leaves import flowing, mask
from ..numbers import plain_fields
from ..registry import register
from ..reserved import LATER, RESERVED
from ..showing import shows_itself
from ..streams import Purpose, stream
from ..tasks import SquaredLoss, Supervised, Task
from .kinds import AbstractChoice, Quantity, kind_of

OBSERVED = "observation_time"
# What a study gives: a file cannot.
_GIVEN = ("model", "task", "reference", "trainable", "rates")
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

    def measure(
        self, models: Mapping[float, PyTree], task: Task, rates: Rates | None = None
    ) -> Series:
        given: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "rates" in parameters and rates is not None:
            given["rates"] = rates
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

    def measure(
        self, models: Mapping[float, PyTree], task: Task, rates: Rates | None = None
    ) -> Series:
        """The distance at some snapshots, the start among them.

        Args:
            models: models by time.
            task: the task of the flow.
            rates: of the flow.

        Returns:
            The series.
        """
        limits = {"rtol": self.rtol, "max_products": self.max_products}
        flow = diagnostics.linearised_flow(
            models[0.0], task, max(models) or 1.0, rates=rates, **limits
        )
        distances = diagnostics.lazy_distance(flow, models)
        times = np.array(list(models))
        cost = 1 + 2 * int(flow.products) + len(models)
        return Series(
            times, np.asarray(distances), cost, np.asarray(flow.error(jnp.asarray(times)))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theta:
    """theta(t) itself: whole, chosen leaves, or fixed random projections.

    Attributes:
        leaves: names of leaves or base edges, * and ? standing for any letters; none for all.
        projections: k > 0 keeps k random projections <theta, g_i> / |g_i| with Gaussian g_i, the
            same for all times and seeds of one shape; 0 keeps the numbers themselves.
        seed: of the projections.
    """

    leaves: tuple[str, ...] = ()
    projections: int = 0
    seed: int = 0
    meaning: typing.ClassVar[str] = "trainable parameters theta, or projections of them"
    unit: typing.ClassVar[str] = "parameter"

    def measure(
        self, models: Mapping[float, Any], task: Task, rates: Rates | None = None
    ) -> Series:
        """The parameters at some snapshots.

        Args:
            models: models by time.
            task: without effect.
            rates: without effect.

        Returns:
            The series, (times, numbers).
        """
        vectors = np.stack([self._vector(model) for model in models.values()])
        if self.projections:
            draws = stream(self.seed, Purpose.PROJECTIONS, vectors.shape[1])
            directions = draws.standard_normal((self.projections, vectors.shape[1]))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            vectors = vectors @ directions.T.astype(vectors.dtype)
        return Series(np.array(list(models)), vectors, 0)

    def _vector(self, model: Any) -> np.ndarray:
        chosen = eqx.filter(model, mask(model, self.leaves or ("*",), "leaves"))
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(chosen)])


for _name, _function, _unit, *_left_out in (
    ("tangent_radius", diagnostics.tangent_radius, "parameter"),
    ("tangent_floor", diagnostics.tangent_curve, "loss", "eps"),
    ("rayleigh", diagnostics.rayleigh, "1 / time"),
    ("sharpness", diagnostics.hessian_ends, "loss / parameter^2"),
    ("curvatures", diagnostics.hessian_ends, "loss / parameter^2"),
    ("hessian_top", diagnostics.hessian_top, "loss / parameter^2"),
    ("kernel_top", diagnostics.kernel_top, "1 / time"),
    ("kernel_ends", diagnostics.kernel_ends, "1 / time"),
    ("kernel_trace", diagnostics.kernel_moments, "1 / time"),
    ("effective_rank", diagnostics.effective_rank, "1"),
    ("kernel_drift", diagnostics.kernel_drift, "1"),
    ("alignment", diagnostics.kernel_alignment, "1"),
    ("imbalance", diagnostics.imbalance, "parameter^2"),
    ("student_overlaps", diagnostics.student_overlaps, "parameter^2"),
    # The directions are the task's.
    ("teacher_overlaps", diagnostics.teacher_overlaps, "parameter", "directions"),
):
    register("observer")(_quantity(_name, _function, _unit, *_left_out))
for _record in (LazyDistance, Theta):
    register("observer")(_record)
# Of squared loss alone.
_SQUARED = ("tangent_radius", "tangent_floor", "lazy_distance")
# Of some models and tasks alone, and cheap: measured once before anything runs.
_OVERLAPS = ("student_overlaps", "teacher_overlaps")


@shows_itself
@plain_fields
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
            check_name(name, "quantities", RESERVED - LATER)
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

    def check(self, task: Task, dynamics: AbstractDynamics) -> None:
        """Refuse quantities that the task's loss or the flow does not have, and names of runs.

        Args:
            task: the study's task.
            dynamics: how theta moves.

        Raises:
            ValueError: for a quantity of squared loss on another one, the law of the gradient flow
                under another dynamics, or such a name.
        """
        if any(kind_of(q, "observer") == "imbalance" for q in self.quantities.values()):
            check_law_of_dynamics(dynamics)
        for name in self.quantities:
            check_name(name, "quantities")
        objective = task.objective
        squared = isinstance(objective, Supervised) and isinstance(objective.loss, SquaredLoss)
        wrong = [n for n, q in self.quantities.items() if kind_of(q, "observer") in _SQUARED]
        if wrong and not squared:
            raise ValueError(
                f"Argument `quantities` must be defined for the task's loss, but {wrong} need "
                "squared loss; leave them out."
            )

    def check_model(self, model: PyTree, task: Task) -> None:
        """Refuse leaves that a model does not have, and functions that fail or give no numbers.

        Args:
            model: a model of the study.
            task: its task. Cost: functions of one's own are called once.

        Raises:
            ValueError: if a quantity names such a leaf, or a function raises or returns something
                else than real numbers.
        """
        for quantity in self.quantities.values():
            if isinstance(quantity, Theta):
                mask(model, quantity.leaves or ("*",), "leaves")
            if isinstance(quantity, AbstractChoice) or kind_of(quantity, "observer") in _OVERLAPS:
                _measure(quantity, {0.0: model}, task, None)


def observe(
    plan: ObservationPlan,
    start: PyTree,
    task: Task,
    solution: FlowSolution,
    horizon: float,
    frozen: Sequence[str] = (),
) -> xarray.Dataset:
    """Measure a plan's quantities at the start and at a flow's snapshots.

    Args:
        plan: the plan.
        start: the model at t = 0.
        task: the task.
        solution: its flow, with snapshots at the plan's times.
        horizon: the horizon for which the flow was planned.
        frozen: names of leaves that did not flow.

    Returns:
        Each quantity along `observation_time`, NaN where the flow had ended before; how far it may
        be off as `<name>_uncertainty` (of eigenvalues the residuals); its whole cost in gradients
        as `<name>_gradients`; the seconds of all as `observation_seconds`. Kernels, Rayleigh
        quotients and radii are those of the flow's rates.
    """
    clock = time.perf_counter()
    times = plan.times(horizon)
    models = {0.0: start} | {t: solution.snapshots[t] for t in times if t in solution.snapshots}
    data = xarray.Dataset(coords={OBSERVED: list(models)})
    # Of what does not flow the rate is 0.
    plain = solution.rates is None and not frozen
    rates = None if plain else all_rates(start, flowing(start, frozen), solution.rates)
    for name, quantity in plan.quantities.items():
        series = _measure(quantity, models, task, rates)
        meaning = {
            "long_name": getattr(quantity, "meaning", kind_of(quantity, "observer")),
            "units": getattr(quantity, "unit", "unknown"),
        }
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


def _measure(
    quantity: Any, models: Mapping[float, Any], task: Task, rates: Rates | None = None
) -> Series:
    """A built-in quantity measures itself; a function of one's own is called at each snapshot."""
    if not isinstance(quantity, AbstractChoice):
        return quantity.measure(models, task, rates)
    build = typing.cast(Any, quantity).build
    values = [
        _numbers(quantity, build(model=model, task=task, reference=models[0.0]))
        for model in models.values()
    ]
    if len({value.shape for value in values}) > 1:
        raise ValueError(
            f"`{quantity.kind}` must return arrays of one shape, but returned "
            f"{sorted({value.shape for value in values})}; pad them or return a number."
        )
    # What it costs in gradients is not known to us.
    return Series(np.array(list(models)), np.stack(values), np.nan)


def _numbers(quantity: AbstractChoice, value: Any) -> np.ndarray:
    """What a function returned as an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        # Lists of different lengths.
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{quantity.kind}` must return a real number or an array of them, but returns "
            f"{value!r:.60}; take the modulus of complex numbers, and pad lists to one length."
        )
    return array
