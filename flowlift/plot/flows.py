"""Which flow results are of, in the words of captions."""

import xarray

from ..answers import study_of
from ..flow.dynamics import LogLoss
from ..sweep.cell import dynamics_of


def flow_in_words(results: xarray.Dataset) -> tuple[str, bool]:
    """What theta moved by, and whether its loss never rises.

    Args:
        results: of a study; those gathered from solutions do not say it.

    Returns:
        Such as "exact gradient flow", and whether the loss never rises: along that flow, in the
        clock of a log-loss flow too, and along no other.
    """
    dynamics = dynamics_of(study_of(results)) if "study" in results.attrs else None
    if dynamics is None or dynamics.plain or isinstance(dynamics, LogLoss):
        return "exact gradient flow", True
    return f"exact flow of {dynamics.title}", False
