"""A cell of a study: lifts of one size, several seeds, one compilation."""

import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray

from ..flow import FlowSolution, check_settings, dataset, solve
from ..lift import Lift, check_plan, sample
from ..modules import PerceptronModule
from ..tasks import Task
from .choices import build_module, build_task
from .grid import SCHEMA, Cell
from .observations import observe
from .study import Study
from .study_file import to_toml, variants

LIBRARIES = ("flowlift", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray")
_OF_A_LIFT = {
    "parameters": "trainable numbers of the lift, padding not counted",
    "edges": "lifted edges, padding not counted",
    "graph_hash": "SHA-256 of the lifted graph",
}


def check_study(study: Study) -> None:
    """Refuse a study that could not be run, before any flow is computed.

    Args:
        study: the study.

    Raises:
        ValueError: for what the module, the laws, the task or the flow refuses, and for axes that
            the study does not have.
    """
    for _, variant in variants(study):
        _check_variant(variant)


def _check_variant(study: Study) -> None:
    plan = study.flow
    check_settings(plan.solver, plan.rtol, plan.atol, plan.max_steps, study.precision)
    if not 0 < plan.horizon < float("inf"):
        raise ValueError(
            f"Argument `flow.horizon` must be a positive finite flow time, but is "
            f"{plan.horizon!r}; give the end T."
        )
    plan.schedule.times(plan.horizon)
    _ = plan.stops
    module = build_module(study.module)
    for size in study.lift.sizes:
        check_plan(module, **_laws(study, module, size))
    task = build_task(study.task, study.precision)
    if study.observe:
        study.observe.times(plan.horizon)
        study.observe.check(task)


def run_cell(
    study: Study, cell: Cell, on_run: Callable[[int, FlowSolution], None] | None = None
) -> xarray.Dataset:
    """Draw and train the lifts of one cell.

    Args:
        study: the study.
        cell: the values along its further axes, the lift size and the seeds.
        on_run: called with seed and solution after every flow.

    Returns:
        A dataset with dimensions `size` (of length 1), `seed` and `time`: the study's save times,
        with NaN where a flow had ended before. How and where each flow ended is kept apart, and
        so are quantities observed, along `observation_time`.
    """
    study = _variant(study, cell)
    module, task = build_module(study.module), build_task(study.task, study.precision)
    runs = []
    for seed in cell.seeds:
        model = draw_lift(study, module, cell.size, seed)
        solution = _flow(study, model, task)
        run = _one_run(study, model, solution)
        if study.observe:
            plan = study.observe
            run = run.merge(observe(plan, model, task, solution, study.flow.horizon))
        runs.append(run)
        if on_run:
            on_run(seed, solution)
    data = xarray.concat(runs, xarray.IndexVariable("seed", list(cell.seeds)))
    data["run"] = ("seed", list(cell.runs), _RUN)
    data = data.expand_dims(size=[cell.size]).assign_attrs(_provenance(study))
    data["seed"].attrs, data["size"].attrs = dict(_SEED), dict(_SIZE)
    return data


def _variant(study: Study, cell: Cell) -> Study:
    """The study with the cell's values along its further axes."""
    return next(
        v for assignments, v in variants(study) if tuple(assignments.items()) == cell.variant
    )


def _laws(study: Study, module: PerceptronModule, size: int) -> dict[str, Any]:
    plan = study.lift
    return {
        "copies": plan.copies(module, size),
        "edges": {"*": plan.edges, **plan.edges_over},
        "weights": {"*": plan.weights, **plan.weights_over},
    }


def draw_lift(study: Study, module: PerceptronModule, size: int, seed: int) -> Lift:
    """The lift of one run.

    Args:
        study: the study, without further axes.
        module: its base module.
        size: the lift size.
        seed: the seed of graph and weights.

    Returns:
        The lift.
    """
    return sample(module, **_laws(study, module, size), seed=seed, precision=study.precision)


def _flow(study: Study, model: Lift, task: Task) -> FlowSolution:
    plan = study.flow
    return solve(
        model,
        task,
        plan.horizon,
        solver=plan.solver,
        rtol=plan.rtol,
        atol=plan.atol,
        save=plan.schedule,
        stops=plan.stops,
        snapshots=_observation_times(study)[1:].tolist(),
        max_gradients=plan.max_gradients,
        max_steps=plan.max_steps,
        precision=study.precision,
    )


def _one_run(study: Study, model: Lift, solution: FlowSolution) -> xarray.Dataset:
    """A flow on the study's save times, with the facts of its lift and both its ends."""
    data = dataset(solution)
    last = data.isel(time=-1)
    ends = {
        "initial_loss": data.loss[0],
        "final_loss": last.loss,
        "final_gradient_norm": last.gradient_norm,
        "final_distance": last.distance,
        "final_arc_length": last.arc_length,
    }
    facts = {
        "parameters": model.n_parameters,
        "edges": model.n_edges,
        "graph_hash": np.asarray(model.graph_hash),
    }
    grid = np.append(0.0, study.flow.schedule.times(study.flow.horizon))
    grid = np.union1d(grid, _observation_times(study))
    return data.reindex(time=grid).assign(
        {name: ((), end.values, end.attrs) for name, end in ends.items()}
        | {n: ((), v, {"long_name": _OF_A_LIFT[n], "units": "1"}) for n, v in facts.items()}
    )


def _observation_times(study: Study) -> np.ndarray:
    return study.observe.times(study.flow.horizon) if study.observe else np.zeros(1)


_SEED = {"long_name": "seed of the lift's graph and weights", "units": "1"}
_RUN = {"long_name": "identity: hash of all that determines the numbers", "units": "1"}
_SIZE = {"long_name": "lift size n", "units": "1"}


def _provenance(study: Study) -> dict[str, Any]:
    versions = {f"version_{name}": importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "title": f"gradient flows of random sparse lifts: {study.name}",
        "schema": SCHEMA,
        "study": to_toml(study),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        **versions,
    }
