"""Which flow results are of, in the words of captions."""

import xarray

from ..answers import study_of
from ..flow.dynamics import LogLoss
from ..studies import Study
from ..studies.rewire_plan import RewirePlan
from ..sweep.cell import dynamics_of


def flow_in_words(results: xarray.Dataset) -> tuple[str, bool]:
    """What theta moved by, and whether its loss never rises.

    Args:
        results: of a study; those gathered from solutions do not say it.

    Returns:
        Such as "exact gradient flow", and whether the loss never rises: along that flow, in the
        clock of a log-loss flow too, and along no other; and on a graph that stays.
    """
    study = study_of(results) if "study" in results.attrs else None
    dynamics = None if study is None else dynamics_of(study)
    if study is not None and graph_changes(study):
        return "exact gradient flow on a graph that changes", False
    if dynamics is None or dynamics.plain or isinstance(dynamics, LogLoss):
        return "exact gradient flow", True
    return f"exact flow of {dynamics.title}", False


def graph_changes(study: Study) -> bool:
    """Whether the graph changes along some flows of a study.

    Args:
        study: the study.

    Returns:
        Whether it or one of its further axes says so.
    """
    assigned = [
        key for labels in study.alternatives.values() for at in labels.values() for key in at
    ]
    along = any(key.startswith("flow.rewire") for key in (*study.vary, *assigned))
    return along or study.flow.rewire is not None


def graph_in_words(plan: RewirePlan) -> str:
    """When a graph changes and how, as a clause.

    Args:
        plan: the study's table.

    Returns:
        The clause.
    """
    if plan.times is not None:
        when = f"at t = {', '.join(f'{t:g}' for t in plan.times)}"
    else:
        when = f"every {plan.every:g}" if plan.every else f"{plan.per_decade} times a decade of t"
        when += f" from t = {plan.first_time:g} on" if plan.first_time else ""
        when += f" until t = {plan.last_time:g}" if plan.last_time else ""
    shares = plan.drop if isinstance(plan.drop, tuple) else (plan.drop,)
    share = ", then ".join(f"{100 * share:g}%" for share in shares)
    falling = ", a share that falls to none," if plan.anneal else ""
    enter = {"gradient": "with the largest gradients", "random": "at random"}[plan.grow]
    return (
        f"the graph changes {when}: of the edges {share}{falling} leave, those of least weight,"
        f" and as many enter from weight 0, {enter}"
    )
