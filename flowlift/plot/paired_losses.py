"""One value of an axis against another, seed by seed: solver against solver."""

from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import common_end, last_known, there
from .style import MARKERS, axes_for, caption, label_between_decades, loss_axis, ordered_colours


def paired_losses(
    first: xarray.Dataset,
    second: xarray.Dataset,
    ax: Axes | None = None,
    *,
    names: tuple[str, str] = ("first", "second"),
    loss: float | None = None,
) -> Axes:
    """Final losses of two variants against each other, a point for each size and seed.

    Args:
        first: a study's results, of one variant.
        second: the same sizes and seeds of another variant, e.g. by another solver.
        ax: axes to draw into; a new figure if None.
        names: of the two.
        loss: eps, drawn as lines: runs in the upper left or lower right quarter are discordant.

    Returns:
        The axes. A point is hollow where one of its flows ended before the common end of its
        variant, at no certified critical point: its loss there is at most that.
    """
    ax = axes_for(ax)
    sizes = np.sort(first["size"].values)
    seen = [last_known(data, common_end(data)) for data in (first, second)]
    hollow = any((there(d) & ~known).any() for d, known in zip((first, second), seen, strict=True))
    for i, (size, colour) in enumerate(zip(sizes, ordered_colours(len(sizes)), strict=True)):
        pair = np.stack([d.final_loss.sel(size=size).values for d in (first, second)])
        full = np.logical_and(*(known.sel(size=size).values for known in seen))
        style: dict[str, Any] = {"marker": MARKERS[i % 11], "color": colour, "ls": "", "ms": 4}
        ax.plot(*pair[:, full], alpha=0.7, label=f"n = {size}", **style)
        if not full.all():
            ax.plot(*pair[:, ~full], mfc="none", alpha=0.7, **style)
    if loss is not None:
        ax.axvline(loss, color="#D55E00", lw=0.8, ls=":")
        ax.axhline(loss, color="#D55E00", lw=0.8, ls=":")
    losses = np.concatenate([d.final_loss.values.ravel() for d in (first, second)])
    for axis, name in zip((ax.xaxis, ax.yaxis), names, strict=True):
        loss_axis(axis, losses, f"loss L at the end, {name}")
    limits = _limits(losses)
    ax.plot(limits, limits, color="0.5", lw=0.8, zorder=0)
    ax.set(xlim=limits, ylim=limits)
    for axis in (ax.xaxis, ax.yaxis) if ax.get_xscale() == "log" else ():
        label_between_decades(axis)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    caption(
        ax,
        "Final losses of runs that share size and seed. On the diagonal both went equally far;"
        " below it the second went further."
        + (f" Dotted: L = {loss:g}." if loss is not None else ""),
        ["Hollow: one had ended before, and its loss is an upper bound."] if hollow else (),
    )
    return ax


def _limits(losses: np.ndarray) -> tuple[float, float]:
    """Of both axes alike, so that the diagonal is one."""
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() <= 0:
        margin = 0.05 * (np.ptp(losses) or 1.0)
        return losses.min() - margin, losses.max() + margin
    return (losses.min() / 1.5, losses.max() * 1.5) if losses.size else (0.1, 10.0)
