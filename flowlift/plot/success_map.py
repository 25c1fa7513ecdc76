"""Success probability over flow time and lift size."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import there, time_to_loss
from .style import axes_for, caption, figure_of, time_axis

# Before the first flow has met the loss there is nothing to see.
_BEFORE = 10.0


def success_map(data: xarray.Dataset, loss: float, ax: Axes | None = None) -> Axes:
    """The share of flows with L <= eps by t, over (t, n), as colours; 1/2 and 9/10 as contours.

    Args:
        data: a study's results, of one variant.
        loss: eps.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. Sizes are rows of equal height, in order. A flow that ended before it met the
        loss counts as not having met it; times after the last flow has ended are not drawn.
    """
    ax = axes_for(ax)
    times, shares, sizes = success_shares(data, loss)
    between = np.sqrt(times[:-1] * times[1:])
    first = times[0] ** 2 / between[0] if between.size else times[0] / _BEFORE
    edges = np.concatenate([[first], between, [times[-1]]])
    rows = np.arange(len(sizes))
    mesh = ax.pcolormesh(
        edges,
        np.arange(len(sizes) + 1) - 0.5,
        shares,
        cmap="cividis",
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    if min(shares.shape) > 1 and shares.max() > 0.5:
        style = {"colors": "#D55E00", "linestyles": ["--", "-"], "linewidths": 1.5}
        ax.contour(times, rows, shares, levels=[0.5, 0.9], **style)
    time_axis(ax, data.time)
    ax.set_ylabel("lift size n")
    met = np.flatnonzero(shares.max(axis=0) > 0)
    if met.size:
        ax.set_xlim(max(edges[0], times[met[0]] / _BEFORE), edges[-1])
    ax.set_yticks(rows, [str(n) for n in sizes])
    figure_of(ax).colorbar(mesh, ax=ax, label=f"share with L ≤ {loss:g} by t")
    caption(
        ax,
        f"Share of flows with L ≤ {loss:g} by time t, per lift size; those that ended before have"
        " not met it. Lines, where reached: 1/2 (dashed) and 9/10. If larger lifts learn sooner,"
        " they bend to the left upwards.",
    )
    return ax


def success_shares(data: xarray.Dataset, loss: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of flows that have met a loss, over save times and sizes.

    Args:
        data: a study's results, of one variant.
        loss: eps.

    Returns:
        Positive times up to the end of the last flow, shares (sizes, times), and sizes with a
        finished run, increasing.
    """
    when, met = time_to_loss(data, loss)
    done = there(data)
    time = data.time.values[data.time.values > 0]
    # What follows the end of all flows is not known, however long another variant's go on.
    time = time[: 1 + np.searchsorted(time, float(data.end_time.max()))]
    sizes = np.sort([n for n in data["size"].values if bool(done.sel(size=n).any())])
    rows = []
    for size in sizes:
        here = done.sel(size=size).values
        reached = np.where(met.sel(size=size).values, when.sel(size=size).values, np.inf)[here]
        rows.append((reached[:, None] <= time).mean(axis=0))
    return time, np.array(rows), sizes
