"""Loss against flow time."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers.verdicts import from_on, stuck
from ..flow.frame import in_log_time
from ..registry import register
from ..sweep import tolerance_floor
from .bounds import quantile
from .flows import flow_in_words
from .keys import MANY, key, names_of
from .style import axes_for, caption, label, ordered_colours, seeds_per_size
from .ticks import loss_axis, time_axis

_BAND = (0.1, 0.9)


@register("figure")
def loss_vs_time(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Loss against flow time, log-log if it is positive: median over seeds, band of 80% of them.

    A flow that has ended keeps its last loss: along the exact flow an upper bound of what follows.
    Leaving it out would let the curve rise as the fast flows of a size meet their stopping rule. As
    soon as a median depends on it, other than at a certified critical point, it is dotted: an upper
    bound of the median, which never rises either. A band is drawn while both edges are known.
    The median of the loss on held-out data, where there are any, is dashed: it may rise, and is
    drawn while all flows of a size have one.

    Args:
        data: `loss` along `time`, and along `size` and `seed` where there are any: the dataset of
            a single flow (`flowlift.flow.dataset`) or of a study (`flowlift.store.load`).
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. Where losses are not all positive its label says which axis they have.
        t = 0 has no place on a logarithmic axis and is not drawn, nor is anything after
        the last flow has ended. Of a study, losses
        that its tolerances leave undetermined are hatched (`flowlift.sweep.tolerance_floor`).
    """
    ax = axes_for(ax)
    times, losses, known = _until_all_have_ended(data)
    sizes, bounded = data["size"].values if "size" in losses.dims else [None], False
    colours = ordered_colours(len(sizes))
    for size, colour in zip(sizes, colours, strict=True):
        at = {} if size is None else {"size": size}
        runs, sure = (
            np.atleast_2d(a.sel(at).transpose(..., "time").values) for a in (losses, known)
        )
        name = "" if size is None else f"n = {size}"
        bounded |= _band(ax, times, runs, sure, colour, name, len(sizes))
        if "held_out_loss" in data:
            _dashed(ax, data.sel(at), colour)
    time_axis(ax, data.time)
    beside = [data.held_out_loss.values.ravel()] if "held_out_loss" in data else []
    loss_axis(ax.yaxis, np.concatenate([losses.values.ravel(), *beside]), label(data.loss))
    # A log-loss flow resolves log L, however small L is.
    judged = "study" in data.attrs and not in_log_time(data)
    floor = tolerance_floor(data) if judged else 0.0
    shown = floor > 0 and ax.get_ylim()[0] < floor
    if shown:
        ax.axhspan(ax.get_ylim()[0], floor, fill=False, hatch="////", ec="0.75", lw=0, zorder=0)
    ax.grid(alpha=0.25)
    if len(sizes) > 1:
        key(ax, names_of(sizes), colours, "lift size")
    several = "size" in losses.dims and data.sizes.get("seed", 1) > 1
    seeds = seeds_per_size(losses.max("time")) if several else ""
    flow, falls = flow_in_words(data)
    text = f"Loss along the {flow}; it {'never rises' if falls else 'may rise'}."
    _caption(ax, text, seeds, bounded, shown, bool(beside))
    return ax


def _dashed(ax: Axes, data: xarray.Dataset, colour) -> None:
    """The median of the held-out loss where all flows that were done have one."""
    found = data.held_out_loss.where(data.time > 0, drop=True).transpose(..., "time")
    runs = np.atleast_2d(found.values)
    runs = runs[np.isfinite(runs).any(axis=1)]
    whole = np.isfinite(runs).all(axis=0)
    if len(runs) and whole.any():
        ax.plot(found.time.values[whole], np.median(runs[:, whole], axis=0), "--", color=colour)


def _until_all_have_ended(
    data: xarray.Dataset,
) -> tuple[np.ndarray, xarray.DataArray, xarray.DataArray]:
    """Positive times up to the last end, losses there, and whether they are known, not bounds."""
    loss = data.loss.where(data.time > 0, drop=True)
    if "final_loss" not in data:
        return loss.time.values, loss, xarray.ones_like(loss, dtype=bool)
    # Times that another variant was saved at, with another horizon, say nothing of these flows.
    times = loss.dropna("time", how="all").time.values
    end = float(data.end_time.max())
    times = np.append(times, end) if not times.size or end > times[-1] else times
    dims = (*data.final_loss.dims, "time")
    runs = data.loss.transpose(*dims).values.reshape(-1, data.sizes["time"])
    ends, finals = (
        data[name].transpose(*dims[:-1]).values.ravel() for name in ("end_time", "final_loss")
    )
    drawn, last = _at_times(data.time.values, runs, ends, finals, times)
    coords = {name: data[name] for name in data.final_loss.dims} | {"time": times}
    shape = (*data.final_loss.shape, len(times))
    losses = xarray.DataArray(np.reshape(drawn, shape), coords, dims)
    seen = from_on(last[:, None], times).reshape(shape)
    return times, losses, xarray.DataArray(seen, coords, dims) | stuck(data)


def _at_times(
    saved: np.ndarray, losses: np.ndarray, ends: np.ndarray, finals: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flows, a row each, at the times of all, and when each was last seen."""
    # A flow is a polyline over log t through its saved losses and its end, constant from then on.
    drawn, last = np.full((len(losses), len(times)), np.nan), np.full(len(losses), -np.inf)
    finite = np.isfinite(losses)
    # Flows that were saved at the same times are drawn together: there are few kinds of these.
    _, kinds = np.unique(np.packbits(finite, axis=1), axis=0, return_inverse=True)
    for rows in _alike(kinds.ravel()):
        kept = finite[rows[0]]
        t, values = saved[kept], losses[np.ix_(rows, kept)]
        further = np.isfinite(finals[rows]) & (ends[rows] > (t[-1] if t.size else -np.inf))
        last[rows[further]] = np.maximum(ends[rows[further]], 0.0)
        last[rows[~further]] = t[-1] if t.size else -np.inf
        # Where a flow says no more after its last saved loss, its polyline ends there.
        end = np.where(further, ends[rows], t[-1] if t.size else np.nan)
        final = np.where(further, finals[rows], values[:, -1] if t.size else np.nan)
        drawn[rows] = _polylines(t, values, end, final, times)
    return drawn, last


def _alike(kinds: np.ndarray) -> list[np.ndarray]:
    """The places of each kind."""
    order = np.argsort(kinds, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1)


def _polylines(t, values, end, final, times) -> np.ndarray:
    """Flows saved at the same times t, each with an end of its own not before the last of these."""
    start, positive = values[:, :1] if t.size else final[:, None], t > 0
    if not positive.any():
        # Before a flow was saved first its loss is at most that at the start.
        return np.where(times < end[:, None], start, final[:, None])
    logs, x, values = np.log(t[positive]), np.log(times), values[:, positive]
    left = np.clip(np.searchsorted(logs, x, side="right") - 1, 0, max(0, len(logs) - 2))
    right = np.minimum(left + 1, len(logs) - 1)
    drawn = _between(x, logs[left], logs[right], values[:, left], values[:, right])
    after = _between(x, logs[-1], np.log(end)[:, None], values[:, -1:], final[:, None])
    return np.where(x < logs[0], start, np.where(x > logs[-1], after, drawn))


def _between(x, low, high, first, second) -> np.ndarray:
    """A line from (low, first) to (high, second), constant beyond; rounding keeps it monotone."""
    share = (x - low) / np.where(high > low, high - low, 1.0)
    line = first + np.clip(share, 0.0, 1.0) * (second - first)
    line = np.clip(line, np.minimum(first, second), np.maximum(first, second))
    return np.where((high > low) & (x < high), line, second)


def _band(ax: Axes, times, runs: np.ndarray, known: np.ndarray, colour, name: str, of: int) -> bool:
    """Draw one size; whether some of its median is a bound."""
    # Runs that were not done, or failed before they had a loss, have no curve.
    alive = np.isfinite(runs).any(axis=1)
    runs, known = runs[alive], known[alive]
    middle, sure = quantile(runs, known, 0.5)
    (low, below), (high, above) = (quantile(runs, known, share) for share in _BAND)
    style = {"color": colour, "marker": "o" if len(times) == 1 else ""}
    if not sure.all():
        ax.plot(times, np.where(_with_neighbours(~sure), middle, np.nan), ":", lw=1.2, **style)
    ax.plot(times, np.where(sure, middle, np.nan), label=name, **style)
    if len(runs) > 1:
        # Many bands lie on one another.
        where, alpha = below & above, 0.2 * min(1.0, MANY / of)
        ax.fill_between(times, low, high, where=where, color=colour, alpha=alpha, linewidth=0)
    return bool((~sure & np.isfinite(middle)).any())


def _with_neighbours(chosen: np.ndarray) -> np.ndarray:
    """Also the places before, so that a line begins where the one before it ends."""
    return chosen | np.append(chosen[1:], False)


def _caption(ax: Axes, text: str, seeds: str, bounded: bool, floor: bool, held_out: bool) -> None:
    if seeds:
        text += (
            f" Lines: median over {seeds}; bands: the middle 80%. If larger lifts converge further,"
            " curves of larger n lie lower at late times."
        )
    notes = []
    if held_out:
        notes.append("Dashed: the loss on held-out data, which may rise.")
    if bounded:
        notes.append(
            "Dotted: an upper bound, as flows had ended before; they keep their last loss."
        )
    if floor:
        notes.append("Hatched: below what the tolerances determine.")
    caption(ax, text, notes)
