"""What all figures share: sizes of figure and text, colours, labels with units, captions."""

import contextlib
import contextvars
import textwrap
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text

_POINTS = 72.0
# Letters of the font are so wide on average, in units of its size, names of variants included.
_LETTER = 0.6
# Lines are so far apart, in units of their size; inches that a caption takes.
_LEADING, _CAPTION = 1.2, 0.7
# Of the height of a panel, what a label along it may take; of its width, its title.
_ALONG, _ABOVE = 0.64, 0.85
# A caption of more lines makes a figure of ours higher, so that its axes keep their height.
_CAPTION_LINES, _LINE_POINTS = 4, 9.0
# Sizes of text that go with the font size of matplotlib's settings.
SMALL, TINY = "small", "x-small"
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


class Format(NamedTuple):
    """What figures are made for.

    Attributes:
        width: of a figure of one panel, in inches.
        height: of a row of panels.
        columns: panels beside one another at most.
        whole: whether `width` is that of all columns together.
        captions: whether captions are drawn.
    """

    width: float
    height: float
    columns: int
    whole: bool
    captions: bool

    def panel(self, columns: int) -> float:
        """The width of a panel where so many stand beside one another."""
        return self.width / columns if self.whole else self.width


# One column of a two-column page, enlarged for legibility on screens.
_SCREEN = Format(4.6, 3.4, 2, False, True)
# Column widths of journals: 85 and 175 mm.
WIDTHS = {"single": Format(3.35, 2.5, 1, True, False), "double": Format(6.9, 2.7, 2, True, False)}
_FORMAT: contextvars.ContextVar[Format] = contextvars.ContextVar("format", default=_SCREEN)
# Okabe & Ito's order without its yellow, which white paper swallows.
_CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
# Relative sizes of text, "x-small" is the smallest used, are then 6.25 points and more.
_PAPER = {
    "font.size": 9.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "figure.titlesize": 8.0,
    "lines.linewidth": 1.2,
    "axes.linewidth": 0.6,
    "savefig.dpi": 600,
    # Text stays text in PDF and SVG: it can be searched, and set anew.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def paper(width: str = "single", *, captions: bool = False) -> Iterator[None]:
    """Figures made within have the width of a column in print, and text that is legible there.

    They are to be included at their own size: text is at least 6 points high then, exponents of
    tick labels aside. Colours are told apart with every kind of colour vision.

    Args:
        width: "single" (85 mm) or "double" (175 mm).
        captions: whether captions are drawn below the figures. Papers have captions of their own:
            `caption_of` gives the text.

    Raises:
        ValueError: for another width.
    """
    if width not in WIDTHS:
        raise ValueError(f"Argument `width` must be one of {list(WIDTHS)}, but is {width!r}.")
    token = _FORMAT.set(WIDTHS[width]._replace(captions=captions))
    try:
        settings: Any = {**_PAPER, "axes.prop_cycle": cycler(color=_CYCLE)}
        with plt.rc_context(settings):
            yield
    finally:
        _FORMAT.reset(token)


def most_columns() -> int:
    """How many panels stand beside one another at most."""
    return _FORMAT.get().columns


def letters(inches: float, size: str | float) -> int:
    """How many letters of a font size a length holds.

    Args:
        inches: the length.
        size: of the font, in points or in matplotlib's words.

    Returns:
        Their number; not fewer than 8, or nothing could be read.
    """
    points = FontProperties(size=size).get_size_in_points()
    return max(8, int(inches * _POINTS / (_LETTER * points)))


def broken(words: str, letters: int) -> list[str]:
    """Words in lines: broken at spaces, after the underscores and arrows of names, else anywhere.

    Args:
        words: the text.
        letters: of a line at most.

    Returns:
        The lines.
    """
    if len(words) <= letters:
        return [words]
    parts = words.replace("_", "_ ").replace("->", "-> ")
    lines = textwrap.wrap(parts, letters, break_on_hyphens=False)
    return [line.replace("_ ", "_").replace("-> ", "->") for line in lines]


def extent(words: Iterable[str], size: str | float) -> tuple[float, float]:
    """How wide and high the longest and the highest of some texts are.

    Args:
        words: the texts.
        size: of the font, in points or in matplotlib's words.

    Returns:
        Inches; 0 and 0 of no text. An estimate by letters, as in `letters`.
    """
    inch = FontProperties(size=size).get_size_in_points() / _POINTS
    lines = [text.splitlines() for text in words]
    width = max((len(line) for text in lines for line in text), default=0)
    return _LETTER * inch * width, _LEADING * inch * max(map(len, lines), default=0)


def roomy(ax: Axes, width: float, height: float) -> None:
    """Make a figure of ours that holds these axes alone so large at least.

    Args:
        ax: the axes.
        width: in inches.
        height: in inches, of the axes alone.
    """
    figure = figure_of(ax)
    if figure in _OWN and len(figure.axes) == 1:
        before = figure.get_size_inches()
        figure.set_size_inches(max(before[0], width), max(before[1], height + _CAPTION))


def letters_above(ax: Axes) -> int:
    """How many letters a line of a panel's title holds."""
    spec = ax.get_subplotspec()
    columns = spec.get_gridspec().ncols if spec is not None else 1
    return letters(_ABOVE * figure_of(ax).get_figwidth() / columns, SMALL)


def axes_for(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure of column width."""
    return new_figure(1, 1).add_subplot() if ax is None else ax


def new_figure(rows: int, columns: int) -> Figure:
    """A figure of panels of column width, which becomes higher with what stands below its axes."""
    made_for = _FORMAT.get()
    size = made_for.panel(columns) * columns, made_for.height * rows
    figure = plt.figure(figsize=size, layout="constrained")
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
    room = letters(_ALONG * _FORMAT.get().height, plt.rcParams["axes.labelsize"])
    return textwrap.fill(text.replace("≤ ", "≤\u00a0"), room)


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


class FittingText(Text):
    """A word in the middle of a rectangle that is drawn if the rectangle has room for it."""

    def __init__(self, place: Rectangle, words: str, **style: Any):
        x, y = place.get_x() + place.get_width() / 2, place.get_y() + place.get_height() / 2
        super().__init__(x, y, words, ha="center", va="center", fontsize=SMALL, **style)
        self.place = place

    def draw(self, renderer: Any) -> None:
        """As `Text.draw`, or nothing."""
        place, text = self.place.get_window_extent(renderer), self.get_window_extent(renderer)
        if text.width <= place.width and text.height <= place.height:
            super().draw(renderer)


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
_CAPTIONS: weakref.WeakKeyDictionary[Figure, str] = weakref.WeakKeyDictionary()
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
    _CAPTIONS[figure_of(ax)] = text
    if not _FORMAT.get().captions:
        return
    lines = textwrap.wrap(text, letters(figure_of(ax).get_figwidth(), TINY))
    higher(ax, max(0, len(lines) - _CAPTION_LINES) * _LINE_POINTS, "caption")
    figure_of(ax).supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=TINY, color="0.25")


def caption_of(figure: Figure) -> str:
    """The caption of a figure in one line, whether it is drawn below it or not."""
    return _CAPTIONS.get(figure, "")
