"""Work against precision."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from .keys import key
from .style import MARKERS, axes_for, caption, label, ordered_colours
from .ticks import label_between_decades, loss_axis


def work_precision(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Achieved error against cost, one line a solver; crosses are failures, arrows were given up.

    Args:
        data: as given by `flowlift.compare.compare`.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. A failure stands at the cost it had when it failed and the error of what it had
        reached; one without an error stands at the upper edge.
    """
    ax = axes_for(ax)
    solvers = list(dict.fromkeys(data.solver.values.tolist()))
    colours = ordered_colours(len(solvers))
    for solver, colour, marker in zip(solvers, colours, _markers(len(solvers)), strict=True):
        runs = data.isel(run=np.flatnonzero(data.solver.values == solver))
        good = runs.isel(run=np.flatnonzero(runs.reached.values)).sortby("cost")
        ax.plot(good.cost, good.error, color=colour, marker=marker, ms=4, label=solver)
        failed = ~runs.reached.values
        given_up = runs.given_up.values if "given_up" in runs else np.zeros_like(failed)
        for chosen, marker in ((failed & ~given_up, "x"), (failed & given_up, ">")):
            _failures(ax, runs.isel(run=np.flatnonzero(chosen)), colour, solver, marker)
    ax.set(xscale="log", xlabel=label(data.cost))
    label_between_decades(ax.xaxis)
    # An error may be zero: that of the reference, or of a flow that rests.
    loss_axis(ax.yaxis, data.error, label(data.error))
    ax.grid(alpha=0.25)
    key(ax, solvers, colours, "solver")
    failed = int((~data.reached).sum())
    text = "Lower left is better; errors are against a reference of another family of solvers."
    if failed:
        text += f" Crosses: {failed} of {data.sizes['run']} runs did not reach the horizon."
        if "given_up" in data and data.given_up.any():
            text += " Arrows: given up there, they cost more."
    caption(ax, text)
    return ax


def _failures(ax: Axes, runs: xarray.Dataset, colour, solver: str, marker: str) -> None:
    known = np.isfinite(runs.error.values)
    style = {"color": colour, "marker": marker, "linestyle": "none", "ms": 7}
    ax.plot(runs.cost.values[known], runs.error.values[known], **style)
    edge = ax.get_xaxis_transform()
    ax.plot(runs.cost.values[~known], np.full((~known).sum(), 0.97), transform=edge, **style)
    if len(runs.cost) and solver not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], label=solver, **style)


def _markers(count: int) -> list[str]:
    """Shapes, told apart without colour."""
    return [MARKERS[i % len(MARKERS)] for i in range(count)]
