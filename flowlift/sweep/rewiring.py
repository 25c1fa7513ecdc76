"""Flows of a study whose graph changes: run, described where they failed, refused beforehand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from ..flow import Checkpoints, FlowSolution, Outcome, Rewired, solve_rewired
from ..flow.dataset import Variables
from ..flow.graph_history import history_of
from ..flow.rewired import joined
from ..flow.solve_rewired import check_rewired
from ..lift import Lift
from ..studies.kinds import build_module, kind_of
from ..studies.records import Study
from ..tasks import Task
from .schedules import rewiring_times, saved_times


def flow_rewired(
    study: Study,
    model: Lift,
    task: Task,
    seed: int,
    checkpoints: Checkpoints | None,
    options: Mapping[str, Any],
) -> tuple[FlowSolution, Variables]:
    """One flow on a graph that changes.

    Args:
        study: the study, without further axes.
        model: the lift at t = 0.
        task: its task.
        seed: of the run, which the pairs that grow at random are drawn from.
        checkpoints: the file beside which those of the legs are kept.
        options: of `solve`, but for the dynamics and what is trainable.

    Returns:
        The flow, and what became of the graph.
    """
    plan, times = study.flow.rewire, rewiring_times(study)
    assert plan is not None
    shares = plan.fractions(times, study.flow.horizon)
    run = solve_rewired(
        model,
        task,
        study.flow.horizon,
        times=times.tolist(),
        drop=shares,
        grow=plan.grow,
        seed=seed,
        edges=plan.edges,
        frozen=study.frozen or (),
        checkpoints=checkpoints,
        **options,
    )
    names = check_rewired(model, plan.edges, shares, plan.grow, study.frozen or ())
    # The arrays of edges are of one length in all lifts of a shape.
    most = [int(share * model.fibres[name].capacity) for share in shares for name in names]
    return run.solution, history_of(run, times.tolist(), model.module, sum(most))


def known_of(
    study: Study, checkpoints: Checkpoints, outcome: Outcome
) -> tuple[FlowSolution, Variables]:
    """What is known of a flow that did not come to its end.

    Args:
        study: the study, without further axes.
        checkpoints: the file that kept where it stood.
        outcome: why it did not.

    Returns:
        Its records without a model, and what is known of its graph; nothing where that stays.
    """
    if study.flow.rewire is None:
        return checkpoints.partial(outcome), {}
    times, module = rewiring_times(study), build_module(study.module)
    legs = [leg for leg in checkpoints.partial_legs(outcome) if len(leg.times)]
    if not legs:
        return checkpoints.partial(outcome), history_of(None, times.tolist(), module)
    ends = np.array([0.0, *times, study.flow.horizon])
    run = _of_legs(study, legs, ends, outcome)
    return run.solution, history_of(run, times.tolist(), module)


def _of_legs(study: Study, legs: list[FlowSolution], ends: np.ndarray, outcome: Outcome) -> Rewired:
    starts, saved = ends[: len(legs)].tolist(), saved_times(study)
    return joined(legs, starts, [saved] * len(legs), [{}] * (len(legs) - 1), outcome, {})


def check_rewiring(study: Study) -> None:
    """Refuse a changing graph where it makes no sense, or when it never changes.

    Args:
        study: the study, without further axes.

    Raises:
        ValueError: in either case.
    """
    plan, flow = study.flow.rewire, study.flow
    if plan is None:
        return
    if flow.dynamics is not None:
        raise ValueError(
            "Argument `flow.rewire` must be left out with [flow.dynamics], since the velocity or "
            "the averages of an edge that grows, and of what pruning leaves, would have to be "
            "said; take one of the two out."
        )
    if flow.batch not in (None, "auto"):
        raise ValueError(
            "Argument `flow.batch` must be left out with [flow.rewire], whose flows change their "
            f"shapes, but is {flow.batch!r}; take it out, or give 'auto'."
        )
    plan.fractions(rewiring_times(study), flow.horizon)
    quantities = study.observe.quantities if study.observe else {}
    for name, quantity in quantities.items():
        if kind_of(quantity, "observer") == "theta" and quantity.projections:
            raise ValueError(
                f"Argument `quantities` must hold no projections of theta where the graph changes, "
                f"whose coordinates are then others, but {name!r} is one; observe theta itself."
            )


def check_rewirable(study: Study, model: PyTree, rates: Mapping[str, float] | None) -> None:
    """Refuse a model whose graph cannot change as the study says.

    Args:
        study: the study, without further axes.
        model: a model of it.
        rates: of its leaves.

    Raises:
        ValueError: if it cannot.
    """
    plan = study.flow.rewire
    if plan is not None:
        shares = plan.fractions(rewiring_times(study), study.flow.horizon)
        check_rewired(model, plan.edges, shares, plan.grow, study.frozen or (), rates)
