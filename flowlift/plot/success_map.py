"""Success probability over flow time and lift size."""

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from ..experiments import there, time_to_loss
from .style import axes_for, caption, figure_of, label

# Before the first flow has met the loss there is nothing to see.
_BEFORE = 10.0


def success_map(data: xarray.Dataset, loss: float, ax: Axes | None = None) -> Axes:
    """The share of flows with L <= eps by t, over (t, n), as colours; 1/2 and 9/10 as contours.

    Args:
        data: a study's results, of one variant.
        loss: eps.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. Sizes are rows of equal height, in order.
    """
    ax = axes_for(ax)
    times, shares, sizes = success_shares(data, loss)
    edges = np.sqrt(times[:-1] * times[1:])
    edges = np.concatenate([[times[0] ** 2 / edges[0]], edges, [times[-1]]])
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
    if len(sizes) > 1 and shares.max() > 0.5:
        style = {"colors": "#D55E00", "linestyles": ["--", "-"], "linewidths": 1.5}
        ax.contour(times, rows, shares, levels=[0.5, 0.9], **style)
    ax.set(xscale="log", xlabel=label(data.time), ylabel="lift size n")
    met = np.flatnonzero(shares.max(axis=0) > 0)
    if met.size:
        ax.set_xlim(max(edges[0], times[met[0]] / _BEFORE), edges[-1])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(rows, [str(n) for n in sizes])
    figure_of(ax).colorbar(mesh, ax=ax, label=f"share with L ≤ {loss:g} by t")
    caption(
        ax,
        f"Share of flows with L ≤ {loss:g} by time t, per lift size."
        " Lines, where reached: 1/2 (dashed) and 9/10. If larger lifts learn sooner, they bend to"
        " the left upwards.",
    )
    return ax


def success_shares(data: xarray.Dataset, loss: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of flows that have met a loss, over save times and sizes.

    Args:
        data: a study's results, of one variant.
        loss: eps.

    Returns:
        Positive times, shares (sizes, times), and sizes with a finished run, increasing.
    """
    when, met = time_to_loss(data, loss)
    done = there(data)
    time = data.time.values[data.time.values > 0]
    sizes = np.sort([n for n in data["size"].values if bool(done.sel(size=n).any())])
    rows = []
    for size in sizes:
        here = done.sel(size=size).values
        reached = np.where(met.sel(size=size).values, when.sel(size=size).values, np.inf)[here]
        rows.append((reached[:, None] <= time).mean(axis=0))
    return time, np.array(rows), sizes
