"""Loss against flow time."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..sweep import tolerance_floor
from .style import axes_for, caption, label, loss_axis, ordered_colours, seeds_per_size

_BAND = (0.1, 0.9)


def loss_vs_time(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Loss against flow time, log-log if it is positive: median over seeds, band of 80% of them.

    A flow that has ended keeps its last loss: along the exact flow an upper bound of what follows.
    Leaving it out would let the curve rise as the fast flows of a size meet their stopping rule.

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
    loss = _until_all_have_ended(data)
    sizes = data["size"].values if "size" in loss.dims else [None]
    for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
        rows = loss if size is None else loss.sel(size=size)
        _band(ax, loss.time.values, rows, colour, "" if size is None else f"n = {size}")
    ax.set(xscale="log", xlabel=label(loss.time))
    loss_axis(ax.yaxis, loss.values, label(data.loss))
    floor = tolerance_floor(data) if "study" in data.attrs else 0.0
    shown = floor > 0 and ax.get_ylim()[0] < floor
    if shown:
        ax.axhspan(ax.get_ylim()[0], floor, fill=False, hatch="////", ec="0.75", lw=0, zorder=0)
    ax.grid(alpha=0.25)
    if len(sizes) > 1:
        ax.legend(title="lift size", fontsize=8, title_fontsize=8)
    several = "size" in loss.dims and data.sizes.get("seed", 1) > 1
    caption(ax, _caption(seeds_per_size(loss.max("time")) if several else "", shown))
    return ax


def _until_all_have_ended(data: xarray.Dataset) -> xarray.DataArray:
    """Losses at positive times; of a study those that its flows were saved at, and the end."""
    loss = data.loss.where(data.time > 0, drop=True)
    if "final_loss" not in data:
        return loss
    # Times that another variant was saved at, with another horizon, say nothing of these flows.
    loss = loss.dropna("time", how="all").fillna(data.final_loss)
    end = float(data.end_time.max())
    if loss.sizes["time"] and not end > float(loss.time[-1]):
        return loss
    last = data.final_loss.expand_dims(time=[end]).assign_coords(time=("time", [end]))
    joined = xarray.concat([loss, last], "time", coords="minimal", compat="override")
    return joined.assign_coords(time=joined.time.assign_attrs(data.time.attrs))


def _band(ax: Axes, times, rows: xarray.DataArray, colour, name: str) -> None:
    runs = np.atleast_2d(rows.transpose(..., "time").values)
    runs = runs[np.isfinite(runs).any(axis=1)]
    alive = np.isfinite(runs).any(axis=0)
    middle = np.full(len(times), np.nan)
    low, high = middle.copy(), middle.copy()
    middle[alive] = np.nanmedian(runs[:, alive], axis=0)
    low[alive], high[alive] = np.nanquantile(runs[:, alive], _BAND, axis=0)
    ax.plot(times, middle, marker="o" if len(times) == 1 else "", color=colour, label=name)
    if len(runs) > 1:
        ax.fill_between(times, low, high, color=colour, alpha=0.2, linewidth=0)


def _caption(seeds: str, floor: bool) -> str:
    text = "Loss along the exact gradient flow; it never rises."
    if seeds:
        text += (
            f" Lines: median over {seeds}; bands: the middle 80%. A flow"
            " that has ended keeps its last loss. If larger lifts converge further, curves of"
            " larger n lie lower at late times."
        )
    if floor:
        text += " Hatched: below what the tolerances determine."
    return text
