"""What was seen of losses on held-out data, which may fall and rise again.

Of the training loss a record speaks for all later or all earlier times: it never rises. Of a
held-out loss a record speaks for its own time.
"""

from typing import Any

import numpy as np
import xarray

TRAINING, HELD_OUT = "training", "held out"
# What the loss of an event is called, and its variables along the flow and at its end.
EVENTS = {TRAINING: "L", HELD_OUT: "held-out L"}
_VARIABLES = {
    TRAINING: ("loss", "final_loss"),
    HELD_OUT: ("held_out_loss", "final_held_out_loss"),
}


def check_on(on: str) -> None:
    """Refuse a word for the data of a loss.

    Args:
        on: the word.

    Raises:
        ValueError: if it is neither "training" nor "held out".
    """
    if on not in EVENTS:
        raise ValueError(
            f"Argument `on` must be {TRAINING!r} or {HELD_OUT!r}, but is {on!r}; choose one."
        )


def losses_on(results: xarray.Dataset, on: str) -> tuple[xarray.DataArray, xarray.DataArray]:
    """The loss along the flows and at their ends.

    Args:
        results: as given by `load`.
        on: "training" or "held out".

    Returns:
        Both.

    Raises:
        ValueError: for another word, or results without held-out losses.
    """
    check_on(on)
    along, at_the_end = _VARIABLES[on]
    if along not in results:
        raise ValueError(
            f"Argument `on` must be {TRAINING!r} where flows have no held-out data, but is {on!r}; "
            "give the task held-out data, such as held_out = 0.2, before its runs."
        )
    return results[along], results[at_the_end]


def side_at(
    results: xarray.Dataset, loss: float, time: Any, at_rest: xarray.DataArray
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """On which side of a value the held-out loss of each flow was at a time.

    Known from a record at that time, or from the nearest ones before and after it where both are on
    one side: between two neighbouring save times that agree the loss is taken to have stayed there.
    After its end nothing is known of a flow, unless it ended at a critical point.

    Args:
        results: as given by `load`, with held-out losses.
        loss: eps.
        time: t, a number or one over the further axes.
        at_rest: which flows ended at a certified critical point.

    Returns:
        1 at or below, -1 above, 0 not known; and whether records around that time disagree.
    """
    along, final = losses_on(results, HELD_OUT)
    dims = results.final_loss.dims
    t = xarray.broadcast(xarray.DataArray(time), results.end_time)[0].transpose(*dims).values
    end, last = (part.transpose(*dims).values for part in (results.end_time, final))
    values = along.transpose(*dims, "time").values
    before, after = _neighbours(results.time.values, values, end, last, t)
    side = np.where((before <= loss) & (after <= loss), 1, 0)
    side = np.where((before > loss) & (after > loss), -1, side)
    rest = at_rest.transpose(*dims).values & np.isfinite(last) & (end <= t)
    side = np.where(rest, np.where(last <= loss, 1, -1), side)
    apart = (side == 0) & np.isfinite(before) & np.isfinite(after)
    like = lambda found: results.end_time.transpose(*dims).copy(data=found)
    return like(side), like(apart)


# Times of flows in single precision are rounded.
_SAME_TIME = 5e-7


def _neighbours(saved, values, end, last, t) -> tuple[np.ndarray, np.ndarray]:
    """The last record up to t and the first from t on, NaN where there is none."""
    known, place = np.isfinite(values), np.arange(len(saved))
    upto, since = t * (1 + _SAME_TIME), t * (1 - _SAME_TIME)
    i = np.where(known & (saved <= upto[..., None]), place, -1).max(axis=-1, initial=-1)
    j = np.where(known & (saved >= since[..., None]), place, len(saved)).min(
        axis=-1, initial=len(saved)
    )
    # A place beyond both ends, where there is no record.
    times, padded = np.append(saved, [np.inf, -np.inf]), _with_nothing(values)
    value = lambda at: np.take_along_axis(padded, (at % padded.shape[-1])[..., None], -1)[..., 0]
    before, after = value(i), value(j)
    ended = np.isfinite(last)
    before = np.where(ended & (end <= upto) & (end >= times[i]), last, before)
    after = np.where(ended & (end >= since) & (end <= times[j]), last, after)
    return before, after


def _with_nothing(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.full((*values.shape[:-1], 2), np.nan)], axis=-1)
