"""A study is refused before any flow of it is computed: here, by building what a run needs."""

import json
import math

import equinox as eqx

from ..doing import doing
from ..flow import check_settings
from ..flow.graph import check_lanes
from ..flow.methods import check_served
from ..flow.rates import moving_leaves, named_rates
from ..flow.stops import check_readable, check_stops
from ..leaves import flowing
from ..lift import check_plan
from ..studies.grid import axis_names
from ..studies.kinds import build_module, built
from ..studies.records import Study
from ..studies.toml import axis_values, plain, variants
from ..tasks import Penalised, Task, resolve_objective
from .cell import dynamics_of, laws_of, model_maker, study_task
from .rewiring import check_rewirable, check_rewiring


def check_study(study: Study) -> None:
    """Refuse a study that could not be run, before any flow is computed.

    Args:
        study: the study.

    Raises:
        ValueError: for what the module, the laws, the task or the flow refuses, and for axes that
            the study does not have, or whose names results use.
    """
    axis_names(study)
    points = math.prod(len(values) for values in axis_values(study).values())
    checked, last = set(), ("", None)
    for number, (_, variant) in enumerate(variants(study)):
        with doing("checking the variants", number, points if points > 1 else 0):
            # Variants that differ in their flow have one task and one model a size.
            key = without_flow(variant)
            task = last[1] if key == last[0] and last[1] else study_task(variant)
            last = key, task
            _check_flow(variant, task)
            # What of its flow a model has to fit is when and how its graph changes.
            fits = key, variant.flow.rewire, variant.flow.rewire and variant.flow.horizon
            if fits not in checked:
                _check_models(variant, task)
                checked.add(fits)


def without_flow(study: Study) -> str:
    """What tells variants apart that differ in more than their flow.

    Args:
        study: a study without further axes.

    Returns:
        Its record without the flow, as text.
    """
    return json.dumps({k: v for k, v in plain(study).items() if k != "flow"}, sort_keys=True)


def _check_flow(study: Study, task: Task) -> None:
    plan = study.flow
    limits = plan.max_steps, study.precision, plan.max_gradients
    check_settings(built(plan.solver), plan.rtol, plan.atol, *limits)
    if not 0 < plan.horizon < float("inf"):
        raise ValueError(
            f"Argument `flow.horizon` must be a positive finite flow time, but is "
            f"{plan.horizon!r}; give the end T."
        )
    plan.schedule.times(plan.horizon)
    check_stops(plan.stops)
    check_rewiring(study)
    dynamics = dynamics_of(study)
    check_readable(plan.stops, dynamics.records)
    check_served(dynamics, built(plan.solver))
    check_lanes(plan.batch, built(plan.solver))
    dynamics.check(resolve_objective(task))
    if plan.critical_gradient_norm is not None and not dynamics.plain:
        raise ValueError(
            f"Argument `flow.critical_gradient_norm` must be left out with {dynamics.title}, whose "
            "velocity may carry it through a critical point, but is "
            f"{plan.critical_gradient_norm!r}; take both critical bounds out."
        )
    if study.observe:
        study.observe.times(plan.horizon)
        study.observe.check(task, dynamics)


def _check_models(study: Study, task: Task) -> None:
    """Refuse sizes and laws that make no model, and models that do not fit the task."""
    if study.lift is not None:
        module = build_module(study.module)
        for size in study.lift.sizes:
            check_plan(module, **laws_of(study.lift, module, size))
    # Lifts of one module have outputs of one shape; a function's sizes are its own affair.
    sizes = study.all_sizes if study.lift is None else (min(study.all_sizes),)
    make = model_maker(study)
    for size in sizes:
        model = make(size, study.first_seed)
        resolve_objective(task).check(model)
        if task.held_out is not None:
            task.held_out.check(model)
        flows = flowing(model, study.frozen or ())
        given = study.rates_of(model, size)
        rates = named_rates(model, flows, given)
        if isinstance(task.objective, Penalised):
            task.objective.of(moving_leaves(eqx.filter(model, flows), rates))
        check_rewirable(study, model, given)
        if study.observe:
            study.observe.check_model(model, task)
