"""A random quantity against lift size, with a fitted and a predicted power law."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import log_log_line
from .keys import legend
from .style import axes_for, label
from .ticks import label_between_decades, size_axis


def scaling(
    data: xarray.DataArray,
    ax: Axes | None = None,
    *,
    predicted: float | None = None,
    from_size: float = 0,
    name: str = "",
    colour: str = "C0",
) -> Axes:
    """Every seed a point, the fitted power law with its 95% band, the predicted slope dashed.

    Args:
        data: positive numbers over `size` and `seed`; missing runs are NaN.
        ax: axes to draw into; a new figure if None.
        predicted: the exponent to compare with, drawn through the fit's middle.
        from_size: the fit uses sizes from this one on.
        name: of the family of lifts, for the legend.
        colour: of points and line.

    Returns:
        The axes.
    """
    ax = axes_for(ax)
    sizes, values = data["size"].values, data.transpose("size", "seed").values
    where = np.broadcast_to(sizes[:, None], values.shape)
    ax.plot(where[values > 0], values[values > 0], ".", color=colour, alpha=0.35, ms=4)
    used = (where >= from_size) & ~np.isnan(values)
    law = log_log_line(where[used], values[used])
    line = sizes[sizes >= from_size]
    text = f"{name}: slope {law.exponent:.3f} [{law.low:.3f}, {law.high:.3f}]"
    ax.plot(line, law.at(line), color=colour, label=text)
    ax.fill_between(line, *law.band(line), color=colour, alpha=0.25, linewidth=0)
    if predicted is not None:
        middle = np.exp(np.mean(np.log(line)))
        through = law.at(middle) * (line / middle) ** predicted
        ax.plot(line, through, "--", color="0.3", lw=1, label=f"predicted slope {predicted:g}")
    ax.set(yscale="log", xlabel="lift size n", ylabel=label(data))
    size_axis(ax, sizes)
    label_between_decades(ax.yaxis)
    ax.grid(alpha=0.25)
    # The slope and its interval belong to the line that they are of.
    legend(ax, inside=1.1)
    return ax
