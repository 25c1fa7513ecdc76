"""What all figures share: size, colours, axes with units, captions."""

import textwrap
import weakref
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, NullFormatter, NullLocator

# One column of a two-column page, in inches, enlarged for legibility on screens.
COLUMN = (4.6, 3.4)
_CAPTION_WIDTH = 76
# Okabe & Ito's colours, told apart with every kind of colour vision.
OUTCOME_COLOURS = {
    "converged": "#0072B2",
    "stuck": "#D55E00",
    "not yet": "#E69F00",
    "diverging": "#CC79A7",
    "undecided": "#BBBBBB",
    "not observed": "#FFFFFF",
}
MARKERS = "osD^v<>Pph*"


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


def size_axis(ax: Axes, sizes: Any) -> None:
    """A logarithmic axis of lift sizes, with ticks at these alone; every other one if crowded.

    Args:
        ax: the axes.
        sizes: the sizes.
    """
    sizes = np.sort(np.asarray(sizes))
    shown = sizes[:: max(1, round(len(sizes) / 8))]
    ax.set_xscale("log")
    if len(sizes) == 1:
        ax.set_xlim(sizes[0] / 2, sizes[0] * 2)
    ax.set_xticks(shown, [f"{n:g}" for n in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def time_axis(ax: Axes, time: Any) -> None:
    """A logarithmic axis of flow time; ticks between decades are labelled where there are few.

    Args:
        ax: the axes.
        time: the times, with their meaning and unit.
    """
    ax.set(xscale="log", xlabel=label(time))
    label_between_decades(ax.xaxis)


def label_between_decades(axis: Axis) -> None:
    """Label ticks at 2, 3 and 6 times powers of ten where a logarithmic axis spans few of these.

    Args:
        axis: the axis, whose scale is logarithmic already.
    """
    # With one decade on the axis a single number would be all there is to read.
    axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.5, 0.15)))
    axis.set_tick_params(which="minor", labelsize=7)


def loss_axis(axis: Axis, losses: Any, name: str) -> None:
    """An axis of losses, said on its label where it is not logarithmic: a loss may be negative.

    Positive losses get a logarithmic axis. Where some are zero it is linear below the least
    positive one, so that they are seen; where some are negative it is linear throughout.

    Args:
        axis: the axis.
        losses: all losses drawn along it; those that are not finite count for nothing.
        name: the label.
    """
    ax: Any = axis.axes
    across = axis is ax.xaxis
    scale, limits = (ax.set_xscale, ax.set_xlim) if across else (ax.set_yscale, ax.set_ylim)
    values = np.asarray(losses, float)
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not values.size:
        # Nothing is drawn, and a logarithmic axis would have no limits: the scale stays.
        pass
    elif (values < 0).any() or not positive.size:
        scale("linear")
        name = f"{name}  (linear axis: not all are positive)"
    elif positive.size < values.size:
        least = float(positive.min())
        scale("symlog", linthresh=least)
        # The axis is symmetric by itself, and nothing is below zero.
        limits(-least)
        name = f"{name}  (linear below {least:.1e}: some are 0)"
    else:
        scale("log")
    axis.set_label_text(name)


def seeds_per_size(loss: xarray.DataArray) -> str:
    """How many seeds the sizes have, in words: "100 seeds per lift size", "20 to 100 seeds ...".

    Args:
        loss: a loss per run over `size` and `seed`, NaN where there is no run.

    Returns:
        The words.
    """
    counts = loss.count("seed").values
    counts = counts[counts > 0]
    least, most = (int(counts.min()), int(counts.max())) if counts.size else (0, 0)
    span = f"{most}" if least == most else f"{least} to {most}"
    return f"{span} seed{'s' * (most > 1)} per lift size"


# What panels drawn before had to say of their own.
_NOTES: weakref.WeakKeyDictionary[Figure, list[str]] = weakref.WeakKeyDictionary()


def caption(ax: Axes, text: str, notes: Iterable[str] = ()) -> None:
    """Write below a figure what one should see in it.

    Args:
        ax: any axes of the figure; of several panels the last one's text stays.
        text: one or two sentences, wrapped to the figure's width.
        notes: sentences on marks that not every panel has: those of all panels stay.
    """
    kept = _NOTES.setdefault(figure_of(ax), [])
    kept += [note for note in notes if note not in kept]
    text = " ".join([text, *kept])
    width = round(_CAPTION_WIDTH * figure_of(ax).get_figwidth() / COLUMN[0])
    figure_of(ax).supxlabel(
        textwrap.fill(text, width), x=0.02, ha="left", fontsize=7.5, color="0.25"
    )
