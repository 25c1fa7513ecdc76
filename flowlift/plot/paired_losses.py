"""One value of an axis against another, seed by seed: solver against solver."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from .style import MARKERS, axes_for, caption, label_between_decades, ordered_colours


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
        The axes.
    """
    ax = axes_for(ax)
    sizes = np.sort(first["size"].values)
    for i, (size, colour) in enumerate(zip(sizes, ordered_colours(len(sizes)), strict=True)):
        pair = [d.final_loss.sel(size=size).values for d in (first, second)]
        ax.plot(*pair, MARKERS[i % 11], color=colour, ms=4, alpha=0.7, label=f"n = {size}")
    if loss is not None:
        ax.axvline(loss, color="#D55E00", lw=0.8, ls=":")
        ax.axhline(loss, color="#D55E00", lw=0.8, ls=":")
    ax.set(xscale="log", yscale="log", xlabel=f"loss L at the end, {names[0]}")
    ax.set_ylabel(f"loss L at the end, {names[1]}")
    limits = _limits(first, second)
    ax.plot(limits, limits, color="0.5", lw=0.8, zorder=0)
    ax.set(xlim=limits, ylim=limits)
    label_between_decades(ax.xaxis)
    label_between_decades(ax.yaxis)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    caption(
        ax,
        "Final losses of runs that share size and seed. On the diagonal both went equally far;"
        " below it the second went further."
        + (f" Dotted: L = {loss:g}." if loss is not None else ""),
    )
    return ax


def _limits(*data: xarray.Dataset) -> tuple[float, float]:
    """Of both axes alike, so that the diagonal is one."""
    losses = np.concatenate([d.final_loss.values.ravel() for d in data])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return (losses.min() / 1.5, losses.max() * 1.5) if losses.size else (0.1, 10.0)
