"""A cell of a study: lifts of one size, several seeds, one compilation."""

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray
from jaxtyping import PyTree

from ..flow import Checkpoints, FlowSolution, solve
from ..flow.dataset import Variables, facts_of, record_of
from ..flow.dynamics import AbstractDynamics, GradientFlow
from ..flow.ensemble import member
from ..flow.manner import RAISE, Manner
from ..flow.runner import Waiting
from ..leaves import flowing
from ..lift import sample
from ..modules import PerceptronModule
from ..store.joining import along_seeds
from ..store.schema import versions_of
from ..studies.grid import SCHEMA, Cell
from ..studies.kinds import build_module, build_task, built
from ..studies.losses import with_added
from ..studies.observations import observe
from ..studies.records import LiftPlan, Study
from ..studies.toml import narrowed, to_toml, variants
from ..tasks import Supervised, Task
from ..tasks.losses import resolve_loss
from .certification import certificate_of
from .rewiring import flow_rewired
from .schedules import observation_times, saved_times

LIBRARIES = ("flowlift", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray")


def run_cell(
    study: Study, cell: Cell, on_run: Callable[[int, FlowSolution], None] | None = None
) -> xarray.Dataset:
    """Draw and train the lifts of one cell, without storing anything.

    Args:
        study: the study.
        cell: the values along its further axes, the lift size and the seeds.
        on_run: called with seed and solution after every flow.

    Returns:
        A dataset with dimensions `size` (of length 1), `seed` and `time`: the study's save times,
        with NaN where a flow had ended before. How and where each flow ended is kept apart, and
        so are quantities observed, along `observation_time`.
    """
    bench, runs = Bench(study, cell), []
    for seed, run in zip(cell.seeds, cell.runs, strict=True):
        data, solution = bench.run(seed)
        runs.append((seed, run, data))
        if on_run:
            on_run(seed, solution)
    return gather(bench.study, cell.size, runs)


class Bench:
    """A cell's task and base module, built once for all of its seeds.

    Attributes:
        study: the study with the cell's values along its further axes.
        size: the size of its lifts.
        identified: whether a flow of it has taken its digest: no part of the others, which differ
            by their seeds, will be refused, so that theirs can wait until a file is due.
    """

    def __init__(self, study: Study, cell: Cell):
        self.study = _variant(study, cell)
        self.size = cell.size
        self.identified = False
        self._bare = _task_of(self.study)
        self._task = _with_added(self.study, self._bare, None)
        self._make = model_maker(self.study)

    def run(
        self,
        seed: int,
        checkpoints: Checkpoints | None = None,
        on_lift: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> tuple[Variables, FlowSolution]:
        """Draw and train one lift.

        Args:
            seed: its seed.
            checkpoints: the file that keeps where the flow stands.
            on_lift: called with what is known of the lift once it is drawn.

        Returns:
            The run on the study's save times, and its flow.
        """
        model, facts, task, options = self._drawn(seed, on_lift)
        if self.study.flow.rewire is not None:
            found = flow_rewired(self.study, model, task, seed, checkpoints, options)
        else:
            horizon = self.study.flow.horizon
            found = solve(model, task, horizon, checkpoints=checkpoints, **options), {}
        self.identified |= checkpoints is not None
        return self._kept(model, facts, task, *found), found[0]

    def waiting(
        self,
        seed: int,
        checkpoints: Checkpoints | None = None,
        on_lift: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Waiting[tuple[Variables, FlowSolution]]:
        """As `run`, for a flow that asks for its bursts, so that several run side by side.

        Flows whose graph changes do not.

        Args:
            seed: as for `run`.
            checkpoints: likewise.
            on_lift: likewise.

        Yields:
            The bursts.

        Returns:
            As `run`.
        """
        model, facts, task, options = self._drawn(seed, on_lift)
        options |= {"checkpoints": checkpoints}
        manner = Manner.of(False, RAISE, False)
        flow = member(model, task, self.study.flow.horizon, manner, **options)
        solution = yield from flow
        self.identified |= checkpoints is not None
        return self._kept(model, facts, task, solution, {}), solution

    def _drawn(self, seed: int, on_lift: Callable[[Mapping[str, Any]], None] | None):
        """The model of a seed, what is known of it, its task, and options of its flow."""
        model = self._make(self.size, seed)
        facts = facts_of(model)
        if on_lift:
            on_lift(facts)
        rates, task = self.study.rates_of(model, self.size), self._task
        if self.study.output is not None and self.study.output.centred:
            task = _with_added(self.study, self._bare, model)
        return model, facts, task, _options(self.study, model, rates)

    def _kept(
        self, model: PyTree, facts, task: Task, solution: FlowSolution, history: Variables
    ) -> Variables:
        """What is kept of a run."""
        data = describe(self.study, facts, solution, history)
        # A critical point of a graph that was still to change is none of the whole flow.
        last = np.isfinite(history["rewiring_time"][1]).all() if history else True
        data |= certificate_of(self.study.flow, solution, task, sought=bool(last))
        if self.study.observe:
            how = self.study.flow.horizon, self.study.frozen or ()
            seen = observe(self.study.observe, model, task, solution, *how)
            for name, found in seen.variables.items():
                data[str(name)] = (tuple(map(str, found.dims)), found.values, found.attrs)
        return data


def gather(study: Study, size: int, runs: Sequence[tuple[int, str, Variables]]) -> xarray.Dataset:
    """Runs of one size side by side along `seed`.

    Args:
        study: the study, without further axes.
        size: the lift size.
        runs: seed, identity and data of each.

    Returns:
        A dataset with a dimension `size` of length 1.
    """
    seeds, names, parts = zip(*runs, strict=True)
    data = _side_by_side(parts).assign_coords(seed=("seed", list(seeds)))
    data["run"] = ("seed", list(names), _RUN)
    data = data.expand_dims(size=[size]).assign_attrs(_provenance(study))
    data["seed"].attrs, data["size"].attrs = dict(_SEED), dict(_SIZE[study.size_counts])
    return data


def _side_by_side(parts: Sequence[Variables]) -> xarray.Dataset:
    """As `xarray.concat` along `seed`, which takes longer than a small flow."""
    shapes = [{name: np.shape(values) for name, (_, values, _) in part.items()} for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        return along_seeds([xarray.Dataset(part) for part in parts])
    stacked, coords = {}, {}
    for name, (dims, values, attributes) in parts[0].items():
        # Times are those of all.
        if dims == (name,):
            coords[name] = (dims, values, dict(attributes))
        else:
            together = np.stack([np.asarray(part[name][1]) for part in parts])
            stacked[name] = (("seed", *dims), together, dict(attributes))
    return xarray.Dataset(stacked, coords)


def _variant(study: Study, cell: Cell) -> Study:
    """The study with the cell's values along its further axes."""
    return next(variants(narrowed(study, dict(cell.variant))))[1]


def laws_of(plan: LiftPlan, module: PerceptronModule, size: int) -> dict[str, Any]:
    """Copies, laws and parametrisation of a lift, as `sample` takes them."""
    return {
        "copies": plan.copies(module, size),
        "edges": plan.edge_laws,
        "weights": plan.weight_laws,
        "parametrisation": plan.parametrisation,
    }


def model_maker(study: Study) -> Callable[[int, int], PyTree]:
    """The function of size and seed that makes the models of a study.

    The base module is built once: models of one size then share a compilation, whatever functions
    the module's own builder makes anew at each call.

    Args:
        study: the study, without further axes.

    Returns:
        (size, seed) -> model: a lift, or what the study's own function makes. It raises ValueError
        for a size or laws that make none.
    """
    plan = study.lift
    if plan is None:
        return lambda size, seed: built(study.model, size=size, seed=seed)
    module = build_module(study.module)
    return lambda size, seed: sample(
        module, **laws_of(plan, module, size), seed=seed, precision=study.precision
    )


def study_task(study: Study, start: PyTree | None = None) -> Task:
    """The task of a study with its own loss, and what the study adds to it.

    Args:
        study: the study, without further axes.
        start: a model at its start, whose outputs are subtracted where the study says so.

    Returns:
        The task.

    Raises:
        ValueError: for what does not fit the task.
    """
    return _with_added(study, _task_of(study), start)


def _with_added(study: Study, task: Task, start: PyTree | None) -> Task:
    tables = ("output", "label_noise", "decay", "terms")
    return with_added(task, start, **{name: getattr(study, name) for name in tables})


def _task_of(study: Study) -> Task:
    """The task of a study, with the loss that it names, which a task without samples refuses."""
    task = build_task(study.task, study.precision)
    if study.loss is None:
        return task
    if not isinstance(task.objective, Supervised):
        raise ValueError(
            f"Argument `loss` must be left out for a task without samples, but {task.name!r} has a "
            "loss of its own; take it out."
        )
    loss = resolve_loss(built(study.loss))
    objective = dataclasses.replace(task.objective, loss=loss)
    further = task.held_out and dataclasses.replace(task.held_out, loss=loss)
    return dataclasses.replace(task, objective=objective, held_out=further)


def dynamics_of(study: Study) -> AbstractDynamics:
    """How theta moves in the flows of a study.

    Args:
        study: the study, without further axes.

    Returns:
        The dynamics.
    """
    named = study.flow.dynamics
    return GradientFlow() if named is None else built(named)


def _options(study: Study, model: PyTree, rates: Mapping[str, float] | None) -> dict[str, Any]:
    """Of `solve`, but for a file of checkpoints; of `solve_rewired` where the graph changes."""
    plan = study.flow
    options = {
        "solver": built(plan.solver),
        "rtol": plan.rtol,
        "atol": plan.atol,
        "save": plan.schedule,
        "stops": plan.stops,
        "snapshots": observation_times(study)[1:].tolist(),
        "max_gradients": plan.max_gradients,
        "max_steps": plan.max_steps,
        "precision": study.precision,
        "rates": rates,
        "engine": plan.engine,
    }
    if plan.rewire is None:
        options["trainable"] = flowing(model, study.frozen or ())
        options["dynamics"] = dynamics_of(study)
    return options


def describe(
    study: Study, facts: Mapping[str, Any], solution: FlowSolution, history: Variables
) -> Variables:
    """A flow on the study's save times, with the facts of its lift and both its ends.

    Args:
        study: the study, without further axes.
        facts: of the lift, as far as they are known.
        solution: the flow; it may have no record at all.
        history: of its graph, where that changes.

    Returns:
        The run, without a seed.
    """
    grid = saved_times(study)
    found = record_of(solution, facts)
    kept, place = np.isin(solution.times, grid), np.searchsorted(grid, solution.times)
    for name, (dims, values, attributes) in found.items():
        if dims[:1] == ("time",):
            on_grid = np.full((len(grid), *np.shape(values)[1:]), np.nan, np.asarray(values).dtype)
            on_grid[place[kept]] = np.asarray(values)[kept]
            found[name] = (dims, on_grid, attributes)
    return found | {"time": (("time",), grid, found["time"][2])} | history


_SEED = {"long_name": "seed of the lift's graph and weights", "units": "1"}
_RUN = {"long_name": "identity: hash of all that determines the numbers", "units": "1"}
_SIZE = {
    "copies": {"long_name": "lift size n", "units": "1"},
    "edges": {"long_name": "lift size: expected edges", "units": "1"},
    "parameters": {"long_name": "lift size: expected parameters", "units": "1"},
    "size": {"long_name": "model size n", "units": "1"},
}


def versions() -> str:
    """Libraries, Python, device and kind of machine of this process, as kept for each run."""
    return versions_of(_machinery())


@functools.cache
def _machinery() -> Mapping[str, str]:
    versions = {f"version_{name}": importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        **versions,
    }


def _provenance(study: Study) -> dict[str, Any]:
    return {
        "title": f"gradient flows of random sparse lifts: {study.name}",
        "schema": SCHEMA,
        "precision": study.precision,
        "study": to_toml(study),
        **_machinery(),
    }
