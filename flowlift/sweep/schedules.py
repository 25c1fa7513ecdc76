"""When the flows of a study are saved, observed and rewired."""

import numpy as np
from jaxtyping import Float

from ..studies.records import Study


def observation_times(study: Study) -> Float[np.ndarray, " times"]:
    """When quantities are observed, 0 first.

    Args:
        study: a study without further axes, like all that follow.

    Returns:
        Increasing times.
    """
    return study.observe.times(study.flow.horizon) if study.observe else np.zeros(1)


def rewiring_times(study: Study) -> Float[np.ndarray, " rewirings"]:
    """When the graph changes.

    Args:
        study: the study.

    Returns:
        Increasing times; none where it stays.

    Raises:
        ValueError: if the schedule does not fit the horizon.
    """
    plan, horizon = study.flow, study.flow.horizon
    if plan.rewire is None:
        return np.empty(0)
    saved = np.union1d(plan.schedule.times(horizon), observation_times(study))
    return plan.rewire.times_within(horizon, saved)


def saved_times(study: Study) -> Float[np.ndarray, " times"]:
    """When a run has a record, 0 and both sides of a rewiring as one time included.

    Args:
        study: the study.

    Returns:
        Increasing times.
    """
    grid = np.append(0.0, study.flow.schedule.times(study.flow.horizon))
    return np.union1d(np.union1d(grid, observation_times(study)), rewiring_times(study))
