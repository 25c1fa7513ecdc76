"""The records of a flow as a table of pandas, and what its times are called."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PyTree

from .dynamics.log_loss import LogLoss
from .observers import named_leaves
from .units import LOG_TIME, TIME

if TYPE_CHECKING:
    import pandas


def in_log_time(names: Iterable[Any]) -> bool:
    """Whether times are log(1 + t), as those of a log-loss flow, which alone records these.

    Args:
        names: of variables.

    Returns:
        The verdict.
    """
    return set(LogLoss.records) <= set(names)


def axis_of(names: Iterable[Any]) -> str:
    """What the times of a flow are called.

    Args:
        names: of what it records.

    Returns:
        "log(1 + t)" or "t".
    """
    return LogLoss.clock if in_log_time(names) else "t"


def frame(
    times: np.ndarray, records: Mapping[str, np.ndarray], observations: Mapping[str, PyTree]
) -> "pandas.DataFrame":
    """Records as a table, a row for each time.

    Args:
        times: (m,).
        records: (m,) each.
        observations: by name: trees of arrays (m, ...).

    Returns:
        A column for each number, in this order.
    """
    import pandas

    about = LOG_TIME if in_log_time(observations) else TIME
    unit = "" if about["units"] == "1" else f" [{about['units']}]"
    index = pandas.Index(times, name=f"{axis_of(observations)}{unit}")
    parts = [pandas.DataFrame(dict(records), index=index)]
    for name, value in observations.items():
        names = jax.tree.leaves(named_leaves(name, value))
        for column, leaf in zip(names, jax.tree.leaves(value), strict=True):
            parts.append(_columns(column, np.asarray(leaf), index))
    return pandas.concat(parts, axis=1)


def _columns(name: str, values: np.ndarray, index: "pandas.Index") -> "pandas.DataFrame":
    """One column for each number of an array (m, ...)."""
    import pandas

    places = np.ndindex(values.shape[1:])
    names = [f"{name}[{', '.join(map(str, place))}]" if place else name for place in places]
    return pandas.DataFrame(values.reshape(len(values), -1), index=index, columns=names)
