"""What all figures share: size, colours, axes with units, captions."""

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# One column of a two-column page, in inches, enlarged for legibility on screens.
COLUMN = (4.6, 3.4)
_CAPTION_WIDTH = 76


def axes_for(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure of column width."""
    return plt.figure(figsize=COLUMN, layout="constrained").add_subplot() if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes."""
    return ax.get_figure(root=True)  # pyright: ignore


def ordered_colours(count: int) -> np.ndarray:
    """Colours of an ordered quantity, dark to light: viridis reads in grey and colour-blind."""
    return plt.get_cmap("viridis")(np.linspace(0.0, 0.85, count))


def label(data: Any) -> str:
    """An axis label from a variable's own meaning and unit (the loss is its own unit)."""
    unit = data.attrs.get("units", "1")
    plain = unit in ("1", "loss")
    return data.attrs.get("long_name", data.name) + ("" if plain else f"  [{unit}]")


def caption(ax: Axes, text: str) -> None:
    """Write below a figure what one should see in it.

    Args:
        ax: any axes of the figure.
        text: one or two sentences, wrapped to the figure's width.
    """
    figure = figure_of(ax)
    width = int(_CAPTION_WIDTH * figure.get_figwidth() / COLUMN[0])
    figure.supxlabel(textwrap.fill(text, width), x=0.02, ha="left", fontsize=7.5, color="0.25")
