"""One value of an axis against another, seed by seed: solver against solver."""

from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ..answers import common_end, last_known, there
from .keys import key, names_of
from .style import MARKERS, axes_for, caption, figure_of, ordered_colours, shortened
from .ticks import loss_axis

# More points than these lie on one another; then cells of the plane count them.
MANY_PAIRS, _CELLS = 2000, 48
# Letters of a name on an axis.
_LETTERS = 20


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
        The axes. More than 2,000 pairs are counted in cells of the plane. A point is hollow where
        one of its flows ended before the common end of its variant, at no certified critical
        point: its loss there is at most that.
    """
    ax = axes_for(ax)
    sizes = np.sort(first["size"].values)
    colours = ordered_colours(len(sizes))
    seen = [last_known(data, common_end(data)) for data in (first, second)]
    hollow = any((there(d) & ~known).any() for d, known in zip((first, second), seen, strict=True))
    losses = np.concatenate([d.final_loss.values.ravel() for d in (first, second)])
    for axis, name in zip((ax.xaxis, ax.yaxis), names, strict=True):
        loss_axis(axis, losses, f"loss L at the end,\n{shortened(name, _LETTERS)}")
    limits = _limits(losses)
    ax.set(xlim=limits, ylim=limits)
    many = first.final_loss.size > MANY_PAIRS
    if many:
        _counted(ax, np.stack([d.final_loss.values.ravel() for d in _alike(first, second)]))
    else:
        _points(ax, first, second, sizes, seen, colours)
    if loss is not None:
        ax.axvline(loss, color="#D55E00", lw=0.8, ls=":")
        ax.axhline(loss, color="#D55E00", lw=0.8, ls=":")
    # The line is drawn between corners, and a filled cell has no colour but its own.
    ax.plot(limits, limits, color="0.5", lw=0.8, zorder=2 if many else 0)
    ax.grid(alpha=0.25)
    if not many:
        key(ax, names_of(sizes), colours, "lift size")
    _caption(ax, names, loss, hollow, many)
    return ax


def _points(ax: Axes, first, second, sizes, seen, colours) -> None:
    for i, (size, colour) in enumerate(zip(sizes, colours, strict=True)):
        pair = np.stack([d.final_loss.sel(size=size).values for d in (first, second)])
        full = np.logical_and(*(known.sel(size=size).values for known in seen))
        style: dict[str, Any] = {"marker": MARKERS[i % 11], "color": colour, "ls": "", "ms": 4}
        ax.plot(*pair[:, full], alpha=0.7, label=f"n = {size}", **style)
        if not full.all():
            ax.plot(*pair[:, ~full], mfc="none", alpha=0.7, **style)


def _alike(first: xarray.Dataset, second: xarray.Dataset) -> tuple[xarray.Dataset, xarray.Dataset]:
    """The two with their dimensions in one order."""
    return first, second.transpose(*first.final_loss.dims, ...)


def _counted(ax: Axes, pairs: np.ndarray) -> None:
    """How many runs are where, in cells that are equally large on these axes."""
    scale = ax.transScale
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    corners = scale.transform(np.transpose([ax.get_xlim(), ax.get_ylim()]))
    edges = [np.linspace(low, high, _CELLS + 1) for low, high in corners.T]
    counts, *_ = np.histogram2d(*scale.transform(pairs.T).T, bins=edges)
    x, y = scale.inverted().transform(np.transpose(edges)).T
    mesh = ax.pcolormesh(
        x,
        y,
        np.ma.masked_equal(counts.T, 0),
        cmap="cividis_r",
        norm=LogNorm(1, max(10.0, counts.max())),
        rasterized=True,
    )
    figure_of(ax).colorbar(mesh, ax=ax, label="runs", pad=0.02)


def _caption(ax: Axes, names: tuple[str, str], loss: float | None, hollow: bool, many: bool):
    text = "Final losses of runs that share size and seed. On the diagonal both went equally far;"
    text += " below it the second went further."
    if loss is not None:
        text += f" Dotted: L = {loss:g}."
    if any(len(name) > _LETTERS for name in names):
        text += f" Across: {names[0]}. Upwards: {names[1]}."
    bounds = "Some had ended before" if many else "Hollow: one had ended before"
    notes = [f"{bounds}, and its loss is an upper bound."] if hollow else []
    if many:
        notes.append(f"More than {MANY_PAIRS} runs are counted, sizes together.")
    caption(ax, text, notes)


def _limits(losses: np.ndarray) -> tuple[float, float]:
    """Of both axes alike, so that the diagonal is one."""
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() <= 0:
        margin = 0.05 * (np.ptp(losses) or 1.0)
        return losses.min() - margin, losses.max() + margin
    return (losses.min() / 1.5, losses.max() * 1.5) if losses.size else (0.1, 10.0)
