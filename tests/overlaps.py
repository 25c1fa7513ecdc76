"""Text boxes of a drawn figure: which of them overlap, and which leave the figure."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase

# Boxes that share less than this many pixels of width or height touch, and do not overlap.
_TOUCH = 0.5


class Box(NamedTuple):
    """A text, or the frame of a legend, in pixels."""

    words: str
    points: float
    extent: Bbox
    owner: object


def boxes(figure: Figure) -> list[Box]:
    """Every text that is drawn, and the frame of every legend.

    Drawing itself says which these are: ticks beyond an axis, empty texts and what is invisible
    have boxes too, and nobody sees them.
    """
    with _recorded() as (texts, legends):
        # Constrained layouts settle when a figure is drawn a second time, as when it is saved.
        figure.draw_without_rendering()
        texts.clear()
        legends.clear()
        figure.draw_without_rendering()
        owners = {id(text): legend for legend in legends for text in legend.findobj(Text)}
        found = [
            Box(
                text.get_text(),
                text.get_fontsize(),
                _clipped(text),
                owners.get(id(text), text),
            )
            for text in texts
            if text.get_visible() and text.get_text().strip()
        ]
        frames = [Box("(legend)", np.inf, each.get_window_extent(), each) for each in legends]
    return found + frames


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that overlap, and texts with the frames of legends that are not theirs."""
    return _pairs(boxes(figure))


def outside(figure: Figure) -> list[str]:
    """Texts that leave the figure."""
    return _beyond(boxes(figure), figure.bbox)


def faults(figure: Figure) -> list[str | tuple[str, str]]:
    """Both, drawn once."""
    found = boxes(figure)
    return [*_pairs(found), *_beyond(found, figure.bbox)]


def smallest(figure: Figure) -> float:
    """The smallest size of a text, in points."""
    return min(box.points for box in boxes(figure))


def _pairs(found: list[Box]) -> list[tuple[str, str]]:
    return [
        (one.words, two.words)
        for one, two in itertools.combinations(found, 2)
        if one.owner is not two.owner or "(legend)" not in (one.words, two.words)
        if _overlap(one.extent, two.extent)
    ]


def _beyond(found: list[Box], edge: BboxBase) -> list[str]:
    return [
        box.words
        for box in found
        if box.extent.x0 < edge.x0 - _TOUCH
        or box.extent.x1 > edge.x1 + _TOUCH
        or box.extent.y0 < edge.y0 - _TOUCH
        or box.extent.y1 > edge.y1 + _TOUCH
    ]


def _overlap(one: Bbox, two: Bbox) -> bool:
    width = min(one.x1, two.x1) - max(one.x0, two.x0)
    height = min(one.y1, two.y1) - max(one.y0, two.y0)
    return width > _TOUCH and height > _TOUCH


def _clipped(text: Text) -> Bbox:
    """The part of a text that its clipping leaves."""
    extent, clip = text.get_window_extent(), text.get_clip_box()
    if not text.get_clip_on() or clip is None:
        return extent
    return Bbox.intersection(extent, clip) or Bbox.null()


@contextlib.contextmanager
def _recorded() -> Iterator[tuple[list[Text], list[Legend]]]:
    texts, legends = [], []
    drawn, framed = Text.draw, Legend.draw
    Text.draw = lambda self, *a, **k: (texts.append(self), drawn(self, *a, **k))[1]
    Legend.draw = lambda self, *a, **k: (legends.append(self), framed(self, *a, **k))[1]
    try:
        yield texts, legends
    finally:
        Text.draw, Legend.draw = drawn, framed
