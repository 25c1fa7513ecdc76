"""Success probability over flow time and lift size."""

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..answers import known_times, there, verdicts
from ..answers.held_out import EVENTS, HELD_OUT, TRAINING
from ..answers.verdicts import NOT_OBSERVED, YES, from_on, up_to
from .style import axes_for, caption, figure_of
from .ticks import named_ticks, time_axis

# Before the first flow has met the loss there is nothing to see.
_BEFORE = 10.0


def success_map(
    data: xarray.Dataset, loss: float, ax: Axes | None = None, *, on: str = TRAINING
) -> Axes:
    """The share of flows with L <= eps by t, over (t, n), as colours; 1/2 and 9/10 as contours.

    Args:
        data: a study's results, of one variant.
        loss: eps.
        ax: axes to draw into; a new figure if None.
        on: which loss: "training", or "held out": then the share that is below it **at** t, which
            may fall again.

    Returns:
        The axes. Sizes are rows of equal height, in order. Where some flows were not observed the
        colour is the least share that it may be, hatched; where none were, there is none. Times
        after the last flow has ended are not drawn, nor contours through what is hatched.
    """
    ax = axes_for(ax)
    times, shares, sizes, unseen = success_shares(data, loss, on=on)
    event = f"{EVENTS[on]} ≤ {loss:g} {'by' if on == TRAINING else 'at'}"
    between = np.sqrt(times[:-1] * times[1:])
    first = times[0] ** 2 / between[0] if between.size else times[0] / _BEFORE
    edges = np.concatenate([[first], between, [times[-1]]])
    rows = np.arange(len(sizes))
    mesh = ax.pcolormesh(
        edges,
        np.arange(len(sizes) + 1) - 0.5,
        np.ma.masked_where(unseen == 1, shares),
        cmap="cividis",
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    _hatch(ax, edges, unseen)
    sure = np.ma.masked_where(unseen > 0, shares)
    if min(shares.shape) > 1 and sure.max() > 0.5:
        style = {"colors": "#D55E00", "linestyles": ["--", "-"], "linewidths": 1.5}
        ax.contour(times, rows, sure, levels=[0.5, 0.9], **style)
    time_axis(ax, data.time)
    ax.set_ylabel("lift size n")
    met = np.flatnonzero(shares.max(axis=0) > 0)
    if met.size:
        ax.set_xlim(max(edges[0], times[met[0]] / _BEFORE), edges[-1])
    named_ticks(ax.yaxis, rows, [str(n) for n in sizes])
    figure_of(ax).colorbar(mesh, ax=ax, label=f"share with {event} t")
    caption(
        ax,
        f"Share of flows with {event} time t, per lift size. Lines, where reached: 1/2"
        " (dashed) and 9/10. If larger lifts learn sooner, they bend to the left upwards.",
        ["Hatched: at least this share, as some flows had ended, unobserved; no colour: all had."]
        if unseen.any()
        else (),
    )
    return ax


def _hatch(ax: Axes, edges: np.ndarray, unseen: np.ndarray) -> None:
    for row, column in np.argwhere(unseen > 0):
        left, right = float(edges[column]), float(edges[column + 1])
        corner, width = (left, float(row) - 0.5), right - left
        ax.add_patch(Rectangle(corner, width, 1, fill=False, hatch="////", ec="0.7", lw=0))


def success_shares(
    data: xarray.Dataset, loss: float, *, on: str = TRAINING
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shares of flows that have met a loss, over save times and sizes.

    Args:
        data: a study's results, of one variant.
        loss: eps.
        on: "training", or "held out": shares that are below it at each time.

    Returns:
        Positive times up to the end of the last flow; shares (sizes, times) of flows that are known
        to have met the loss; sizes with a finished run, increasing; and shares of flows that were
        not observed.
    """
    known, done = known_times(data, loss) if on == TRAINING else None, there(data)
    # Times that no flow of this variant was saved at, and those after all ends, say nothing.
    saved = data.loss.notnull().any(("size", "seed")).values & (data.time.values > 0)
    time, end = data.time.values[saved], float(data.end_time.max())
    if end > (time[-1] if time.size else 0.0):
        time = np.append(time, end)
    elif not time.size:
        # All failed before they had a loss: at no time was anything observed.
        time = data.time.values[data.time.values > 0]
    sizes = np.sort([n for n in data["size"].values if bool(done.sel(size=n).any())])
    met, unseen = [], []
    if known is None:
        return time, *_at_each(data, loss, time, sizes)
    for size in sizes:
        here = known.sel(size=size).isel(seed=done.sel(size=size).values)
        yes = up_to(here.met_from.values[:, None], time)
        no = from_on(here.above_to.values[:, None], time)
        met.append(yes.mean(axis=0))
        unseen.append((~yes & ~no).mean(axis=0))
    return time, np.array(met), sizes, np.array(unseen)


def _at_each(
    data: xarray.Dataset, loss: float, time: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares below a held-out loss at each time, sizes, and shares not observed."""
    words = [verdicts(data, loss, t, on=HELD_OUT).verdict.sel(size=sizes) for t in time]
    word = xarray.concat(words, "time").transpose("size", "time", "seed").values
    runs = (word != "").sum(axis=-1)
    share = lambda which: (word == which).sum(axis=-1) / runs
    return share(YES), sizes, share(NOT_OBSERVED)
