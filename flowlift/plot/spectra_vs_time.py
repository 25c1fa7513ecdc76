"""Eigenvalues of the kernel or of the Hessian against flow time."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..diagnostics import Series
from .keys import key
from .style import axes_for, caption, label, ordered_colours
from .ticks import label_between_decades, loss_axis


def spectra_vs_time(data: xarray.DataArray | Series, ax: Axes | None = None) -> Axes:
    """Every eigenvalue a curve, the largest darkest.

    Args:
        data: eigenvalues, largest first, along two dimensions: the first of time, which has its
            times as coordinate (`results.top.sel(size=8, seed=0)` of a study that observes
            `kernel_top` or `hessian_top`), or a `flowlift.diagnostics.Series` of them.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. Times of 0 have no place on their logarithmic axis and stand at its left edge,
        at half the first positive time, which the caption says. Eigenvalues that are zero or
        negative are shown as `flowlift.plot.loss_vs_time` shows such losses.

    Raises:
        ValueError: for data of other dimensions.
    """
    times, values, name, time_name = _taken(data)
    ax = axes_for(ax)
    positive = times[times > 0]
    start = positive.min() / 2 if positive.size else 1.0
    colours = ordered_colours(values.shape[1])
    names = [str(i + 1) for i in range(values.shape[1])]
    for values_of, colour, word in zip(values.T, colours, names, strict=True):
        ax.plot(np.maximum(times, start), values_of, color=colour, label=word, marker=".", ms=3)
    ax.set(xscale="log", xlabel=time_name)
    label_between_decades(ax.xaxis)
    loss_axis(ax.yaxis, values, name)
    ax.grid(alpha=0.25)
    if len(names) > 1:
        key(ax, names, colours, "eigenvalue")
    text = "Eigenvalues along the flow, the largest first. Where they stay, the flow is lazy: it is"
    text += " that of its linearisation."
    if (times == 0).any():
        text += " The leftmost points are of t = 0."
    caption(ax, text)
    return ax


def _taken(data: xarray.DataArray | Series) -> tuple[np.ndarray, np.ndarray, str, str]:
    if isinstance(data, Series):
        times, values = data.times, np.asarray(data.values)
        name, time_name = "eigenvalues", "flow time t"
    else:
        values = data.values
        times = data[data.dims[0]].values if data.ndim else np.zeros(0)
        name = label(data) if data.name or "long_name" in data.attrs else "eigenvalues"
        time_name = label(data[data.dims[0]]) if data.ndim else ""
    if values.ndim != 2:
        raise ValueError(
            f"Argument `data` must have two dimensions, of time and of eigenvalues, but has "
            f"{values.ndim}; select one size and one seed."
        )
    return np.asarray(times, float), np.asarray(values, float), str(name), time_name
