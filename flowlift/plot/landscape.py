"""The loss around a model, with a trajectory that led there."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from ..diagnostics import LandscapeSlice
from .style import axes_for, caption, figure_of

_LEVELS = 14


def landscape(data: LandscapeSlice, ax: Axes | None = None) -> Axes:
    """Contours of L on a plane through theta, and the trajectory projected on it.

    Args:
        data: as given by `flowlift.diagnostics.landscape_slice`.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes, both of one range. Levels of a positive loss are logarithmic, those of another
        one linear, which the label of the colour bar says. The caption says how far
        the trajectory leaves the plane: of a projection one cannot see that.
    """
    ax = axes_for(ax)
    loss = np.ma.masked_invalid(data.loss)
    low, high = float(loss.min()), float(loss.max())
    style: dict[str, Any] = {"cmap": "cividis"}
    if low > 0:
        levels = np.geomspace(low, max(high, low * 1.001), _LEVELS)
        style |= {"norm": "log"}
    else:
        levels = np.linspace(low, high if high > low else low + 1.0, _LEVELS)
    filled = ax.contourf(data.places, data.places, loss, levels, **style)
    ax.contour(data.places, data.places, loss, levels, colors="white", linewidths=0.4, alpha=0.6)
    bar = figure_of(ax).colorbar(filled, ax=ax, label="loss L" + ("" if low > 0 else ", linear"))
    if low > 0:
        bar.locator = LogLocator()
        bar.update_ticks()
    if len(data.times):
        ax.plot(*data.path.T, "-", color="#E69F00", lw=1.4, marker=".", ms=4)
        ax.plot(*data.path[0], "o", color="#E69F00", mec="white", ms=6)
    ax.plot(0, 0, "*", color="#D55E00", mec="white", ms=10)
    one, two = (f"{value:.3g}" for value in data.curvatures)
    ax.set(xlabel=f"along $d_1$, curvature {one}", ylabel=f"along $d_2$, curvature {two}")
    text = "The loss on a plane through theta (star)."
    if len(data.times):
        text += (
            f" Orange: the trajectory from t = {data.times[0]:.3g} (dot) to {data.times[-1]:.3g},"
            f" projected; it leaves the plane by up to {data.off_plane.max():.2g}."
        )
    caption(ax, text)
    return ax
