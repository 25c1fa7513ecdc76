"""What all figures share: sizes of figure and text, colours, labels with units, captions."""

import textwrap
import weakref
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# One column of a two-column page, in inches, enlarged for legibility on screens.
COLUMN = (4.6, 3.4)
_CAPTION_WIDTH = 80
# A caption of more lines makes a figure of ours higher, so that its axes keep their height.
_CAPTION_LINES, _LINE_POINTS = 4, 9.0
# Sizes of text that go with the font size of matplotlib's settings.
SMALL, TINY = "small", "x-small"
# Letters along a vertical axis.
_UPRIGHT = 26
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
    return new_figure(1, 1).add_subplot() if ax is None else ax


def new_figure(rows: int, columns: int) -> Figure:
    """A figure of panels of column width, which becomes higher with what stands below its axes."""
    width, height = COLUMN
    figure = plt.figure(figsize=(width * columns, height * rows), layout="constrained")
    _OWN[figure] = {}
    return figure


def higher(ax: Axes, points: float, what: str = "legend") -> None:
    """Make a figure of ours higher, as much as its highest row of panels asks for.

    Args:
        ax: the axes below which something stands.
        points: how high it is.
        what: it is; of one kind the highest in a row counts.
    """
    figure = figure_of(ax)
    if figure not in _OWN:
        return
    spec = ax.get_subplotspec()
    place = (what, spec.rowspan.start if spec is not None and what != "caption" else 0)
    before, asked = _OWN[figure].get(place, 0.0), _OWN[figure]
    if points > before:
        asked[place] = points
        figure.set_figheight(figure.get_figheight() + (points - before) / 72)


def shortened(name: str, letters: int) -> str:
    """A name of at most so many letters: both of its ends, where variants differ, with a gap."""
    if len(name) <= letters:
        return name
    kept = letters - 1
    return f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"


def upright(text: str) -> str:
    """The label of a vertical axis in lines that are no longer than a panel is high."""
    # A sign stays with its number.
    return textwrap.fill(text.replace("≤ ", "≤\u00a0"), _UPRIGHT)


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
# Figures that were made here, and how many points their rows have got for what stands below.
_OWN: weakref.WeakKeyDictionary[Figure, dict[tuple[str, int], float]] = weakref.WeakKeyDictionary()


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
    lines = textwrap.wrap(text, width)
    higher(ax, max(0, len(lines) - _CAPTION_LINES) * _LINE_POINTS, "caption")
    figure_of(ax).supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=TINY, color="0.25")
