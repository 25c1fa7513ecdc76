"""Which records of integrals are resolved: those that are not are NaN in a solution.

Solvers control errors of theta. Integrals are carried along: where stability holds the steps of a
method down, its stages turn to and fro within the tolerance of theta, and |theta'| and
<grad L, theta'> of all of them add up. So each step's own error estimate of the integrals is summed
up, the drift, and the energy is compared with L(0) - L(t), which is recorded anyway.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Records of what is judged here, named like nothing that a flow can be asked for.
_ERROR, _OPEN = "error of ", "unresolved "
# An integral is resolved to this part of itself, or to ten times the relative tolerance of a step
# where that is more: errors of steps add up.
RESOLVED, _OF_RTOL = 1e-2, 10.0
# By how much the errors of theta that steps estimate fall short of that of the arc length, where
# averages and velocities are only just resolved: up to 7 times in flows of Adam and RMSProp.
_TURNING = 10.0
# A mean over samples and a difference of two are known to some units in the last place.
_UNITS_IN_THE_LAST_PLACE = 32


def judged(
    records: Mapping[str, Any], drifts: np.ndarray, size: np.ndarray, start: float, settings: Any
) -> dict[str, Any]:
    """Estimated errors of the integrals at some times, and which are too large.

    Those of the energy and of a dynamics' own integrals are known but for rounding: L(0) - L(t)
    says what they should be. The arc length has at least the energy's relative error. Its own
    estimate is the drift: where theta' is a gradient, that of the integral; else, since averages
    and velocities that are only just resolved turn theta' about, |error| of theta in all steps.

    Args:
        records: of the flow and its dynamics, (m,).
        drifts: see `flowlift.flow.host_position.Place`, (m, 2).
        size: |theta|, (m,): the arc length means nothing below the error that theta may have.
        start: L(0).
        settings: of the flow: its dynamics and tolerances.

    Returns:
        By names that `marked` and `errors_of` know.
    """
    dynamics, (rtol, atol) = settings.problem.dynamics, settings.tolerances
    loss = np.asarray(records["loss"], float)
    fell = start - loss
    unit = _UNITS_IN_THE_LAST_PLACE * np.finfo(np.asarray(records["loss"]).dtype).eps
    exact = {"energy": fell, **dynamics.balance(fell, records)}
    rounding = unit * np.maximum(abs(start), abs(loss))
    errors = {
        name: np.maximum(abs(np.asarray(records[name], float) - value) - rounding, 0)
        for name, value in exact.items()
    }
    off = errors["energy"] > 0
    share = np.divide(errors["energy"], abs(fell), out=np.where(off, np.inf, 0.0), where=fell != 0)
    arc = np.asarray(records["arc_length"], float)
    least = atol * settings.problem.dimension**0.5 + rtol * size
    way, theta = np.asarray(drifts, float).T
    own = way if dynamics.symmetric else np.maximum(way, _TURNING * theta)
    errors["arc_length"] = own + np.where(arc > 0, share, 0.0) * arc
    most = max(RESOLVED, _OF_RTOL * rtol)
    allowed = {name: most * abs(value) for name, value in exact.items()}
    allowed["arc_length"] = most * arc + least
    open_ = {_OPEN + name: ~(errors[name] <= allowed[name]) for name in errors}
    return {_ERROR + name: error for name, error in errors.items()} | open_


def marked(name: str, records: Mapping[str, Any] | set[str], series: Callable) -> np.ndarray:
    """A record, with NaN in place of numbers that are not resolved.

    Args:
        name: its name.
        records: by the names of which there are records.
        series: name -> the record, (m, ...).

    Returns:
        The same, or a copy.
    """
    values = series(name)
    if _OPEN + name not in records:
        return values
    return np.where(series(_OPEN + name) & np.isfinite(values), np.nan, values).astype(values.dtype)


def errors_of(records: Mapping[str, Any] | set[str], series: Callable) -> dict[str, np.ndarray]:
    """Estimated errors by the name of what they are of.

    Args:
        records: by the names of which there are records.
        series: name -> the record, (m, ...).

    Returns:
        Arrays (m,).
    """
    return {n.removeprefix(_ERROR): series(n) for n in records if n.startswith(_ERROR)}


def is_own(name: str) -> bool:
    """Whether a record is one of this module's."""
    return name.startswith((_ERROR, _OPEN))
