"""An optimiser's losses, step by step and averaged, beside what flows predict."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from .keys import legend
from .style import axes_for, caption, label, ordered_colours
from .ticks import loss_axis


def steps_and_flows(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Losses against time: of the steps grey, averaged over a window black, predicted in colour.

    Args:
        data: as given by `flowlift.compare.compare_with_steps`.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes. A flow that predicts another mean loss than its own is drawn twice: what it
        predicts solid, its loss dotted.
    """
    ax = axes_for(ax)
    time = data.time.values
    ax.plot(time, data.step_loss, color="0.75", lw=0.7, label=f"{data.optimiser}, each step")
    ax.plot(time, data.mean_loss, color="k", lw=1.2, label=f"mean of {data.window} steps")
    names = data.flow.values.tolist()
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        flow = data.sel(flow=name)
        ax.plot(time, flow.predicted_loss, color=colour, label=name)
        if not np.array_equal(flow.predicted_loss, flow.loss, equal_nan=True):
            ax.plot(time, flow.loss, color=colour, ls=":", label=f"{name}, loss of its theta")
    drawn = [data[n].values.ravel() for n in ("step_loss", "mean_loss", "loss", "predicted_loss")]
    loss_axis(ax.yaxis, np.concatenate(drawn), "loss L")
    ax.set_xlabel(label(data.time))
    ax.grid(alpha=0.25)
    legend(ax, inside=0.7)
    caption(
        ax,
        f"Steps of {data.optimiser} on the flows' axis of time. Colours: the mean loss that each "
        "flow predicts; it should lie on the black line.",
    )
    return ax
