"""Time to a loss: survival curves."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import survival, there
from ..answers.held_out import EVENTS, TRAINING
from .keys import MANY, key, names_of
from .style import axes_for, caption, ordered_colours, upright
from .ticks import time_axis


def survival_vs_time(
    data: xarray.Dataset,
    loss: float,
    ax: Axes | None = None,
    *,
    level: float = 0.95,
    on: str = TRAINING,
) -> Axes:
    """The share of flows that have not met a loss by t, per size, with pointwise bands.

    Args:
        data: a study's results, of one variant.
        loss: eps.
        ax: axes to draw into; a new figure if None.
        level: of the bands.
        on: which loss: "training", or "held out": until it was first seen to be met.

    Returns:
        The axes; small ticks on the curves are flows that ended before they met the loss. Where
        the share depends on what stopped flows would have done, its two bounds are dotted.
    """
    ax = axes_for(ax)
    done = there(data)
    sizes = [n for n in np.sort(data["size"].values) if bool(done.sel(size=n).any())]
    least, first, bounded = float(data.time.values[data.time.values > 0].min()), np.inf, False
    colours, alpha = ordered_colours(len(sizes)), 0.12 * min(1.0, MANY / max(1, len(sizes)))
    for size, colour in zip(sizes, colours, strict=True):
        curve = survival(data, loss, size, level=level, on=on)
        times = np.maximum(curve["time"].to_numpy(), least)
        time = np.concatenate([[least], times])
        share, low, high = (np.concatenate([[1.0], curve[c]]) for c in ("share", "low", "high"))
        ax.step(time, share, where="post", color=colour, label=f"n = {size}")
        ax.fill_between(time, low, high, step="post", color=colour, alpha=alpha, lw=0)
        if curve["share"].isna().to_numpy().any():
            bounded = True
            for name in ("least", "most"):
                bound = np.concatenate([[1.0], np.where(np.isnan(share[1:]), curve[name], np.nan)])
                ax.step(time, bound, ":", where="post", color=colour)
        shares, ended = curve["most"].to_numpy(), curve["censored"].to_numpy() > 0
        first = min([first, *times[curve["least"].to_numpy() < 1]])
        ax.plot(times[ended], shares[ended], "|", color=colour, ms=7)
    time_axis(ax, data.time)
    ax.set_ylim(-0.03, 1.05)
    if np.isfinite(first):
        # Before the first flow has met the loss there is nothing to see.
        ax.set_xlim(left=max(least, first / 10))
    ax.set_ylabel(upright(f"share that has not met {EVENTS[on]} ≤ {loss:g}"))
    ax.grid(alpha=0.25)
    key(ax, names_of(sizes), colours, "lift size")
    caption(
        ax,
        f"Kaplan-Meier curves of the time to {EVENTS[on]} ≤ {loss:g}, with pointwise"
        f" {100 * level:g}% bands; ticks: flows that ended before. A curve that levels off above"
        " 0 says that a share of the lifts does not get there.",
        ["Dotted: between these, as flows were stopped or failed; the bands hold either way."]
        if bounded
        else (),
    )
    return ax
