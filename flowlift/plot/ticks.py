"""Ticks that keep their distance, and axes of sizes, of times and of losses, with what they are."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    Formatter,
    LogFormatterSciNotation,
    NullFormatter,
    NullLocator,
)

from .style import TINY, label, upright

# Between two labels, in units of their font size: less reads as one number.
_GAP = 0.5
_POINTS_PER_INCH = 72.0
# A line of text, in units of the font size.
_LINE = 1.2
# Losses of both signs: linear up to this quantile of their absolute values, logarithmic beyond,
# if that leaves a decade.
_LINEAR_SHARE, _DECADE = 0.1, 10.0


class Spaced(Formatter):
    """Labels of another formatter, less those that would touch one that stays.

    Of major ticks every k-th keeps its label, with the least k that leaves a gap, or, where that
    would lose more than half of them, as many as fit from the first on. Minor ticks are labelled
    where major ones leave room. Ticks keep their marks. It is asked at every drawing, so that an
    axis that is made shorter has fewer labels.
    """

    def __init__(self, inner: Formatter):
        self.inner = inner

    def set_axis(self, axis: Any) -> None:
        """As `Formatter.set_axis`, for both."""
        super().set_axis(axis)
        self.inner.set_axis(axis)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label at a value, wherever others are: what a cursor shows."""
        return self.inner(x, pos)

    def format_ticks(self, values: list[float]) -> list[str]:
        """Labels of all ticks, some of them empty."""
        labels, axis = list(self.inner.format_ticks(values)), self.axis
        if not isinstance(axis, Axis) or not labels:
            return labels
        minor = axis.get_minor_formatter() is self
        spans = _spans(axis, np.asarray(values, float), labels, minor)
        if minor:
            places = np.asarray(axis.get_majorticklocs())
            majors = axis.get_major_formatter().format_ticks(places.tolist())
            blocked = [s for s in _spans(axis, places, majors, False) if s is not None]
            kept = _greedy(spans, blocked)
        else:
            kept = _chosen(spans)
        return [text if i in kept else "" for i, text in enumerate(labels)]


Span = tuple[float, float]


def _spans(axis: Axis, values: np.ndarray, labels: Sequence[str], minor: bool) -> list[Span | None]:
    """Where labels begin and end along the axis, with half a gap, in points; None: not drawn."""
    ax: Any = axis.axes
    across, box = axis is ax.xaxis, ax.bbox
    length = (box.width if across else box.height) * _POINTS_PER_INCH / ax.figure.dpi
    low, high = axis.get_transform().transform(np.asarray(axis.get_view_interval()))
    places = (axis.get_transform().transform(values) - low) / (high - low) * length
    ticks: Any = axis.get_tick_params("minor" if minor else "major")
    font = FontProperties(size=ticks.get("labelsize", "medium"))
    size, family = font.get_size_in_points(), tuple(font.get_family())
    found: list[Span | None] = []
    for place, text in zip(places, labels, strict=True):
        half = (_measured(text, size, family)[0 if across else 1] + _GAP * size) / 2
        # A pixel beyond the end is where rounding puts the last tick.
        seen = bool(text) and -1.0 <= place <= length + 1.0
        found.append((float(place - half), float(place + half)) if seen else None)
    return found


@functools.lru_cache(maxsize=4096)
def _measured(text: str, size: float, family: tuple[str, ...]) -> tuple[float, float]:
    """Width and height of a text in points; every drawing asks for those of all ticks."""
    font, lines = FontProperties(family=list(family), size=size), text.split("\n")
    sizes = [
        text_to_path.get_text_width_height_descent(line, font, "$" in line)[:2] for line in lines
    ]
    return max(w for w, _ in sizes), max(max(h for _, h in sizes), size) * _LINE * len(lines)


def _chosen(spans: Sequence[Span | None]) -> set[int]:
    shown = [i for i, span in enumerate(spans) if span is not None]
    greedy = _greedy(spans, ())
    for stride in range(1, len(shown) + 1):
        every = shown[::stride]
        if len(_greedy([spans[i] for i in every], ())) == len(every):
            return set(every) if 2 * len(every) >= len(greedy) else greedy
    return greedy


def _greedy(spans: Sequence[Span | None], blocked: Sequence[Span]) -> set[int]:
    """As many as fit, from the lowest on."""
    kept, taken = set(), list(blocked)
    for i in sorted(range(len(spans)), key=lambda i: (spans[i] is None, spans[i] or ())):
        span = spans[i]
        if span is not None and all(span[0] >= b or span[1] <= a for a, b in taken):
            kept.add(i)
            taken.append(span)
    return kept


def named_ticks(axis: Axis, places: Sequence[float] | np.ndarray, names: Sequence[str]) -> None:
    """Ticks at these places alone, labelled where there is room.

    Args:
        axis: the axis.
        places: of the ticks.
        names: their labels.
    """
    axis.set_major_locator(FixedLocator(np.asarray(places, float).tolist()))
    axis.set_major_formatter(Spaced(FixedFormatter(list(names))))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def size_axis(ax: Axes, sizes: Any) -> None:
    """A logarithmic axis of lift sizes, with ticks at these alone, labelled where there is room.

    Args:
        ax: the axes.
        sizes: the sizes.
    """
    sizes = np.sort(np.asarray(sizes))
    ax.set_xscale("log")
    if len(sizes) == 1:
        ax.set_xlim(sizes[0] / 2, sizes[0] * 2)
    named_ticks(ax.xaxis, sizes, [f"{n:.10g}" for n in sizes])


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
    axis.set_major_formatter(Spaced(LogFormatterSciNotation()))
    # With one decade on the axis a single number would be all there is to read.
    axis.set_minor_formatter(Spaced(LogFormatterSciNotation(minor_thresholds=(1.5, 0.15))))
    axis.set_tick_params(which="minor", labelsize=TINY)


def loss_axis(axis: Axis, losses: Any, name: str) -> None:
    """An axis of losses, said on its label where it is not logarithmic: a loss may be negative.

    Positive losses get a logarithmic axis. Where some are zero it is linear below the least
    positive one, so that they are seen. Where some are negative it is logarithmic to both sides
    and linear around zero, up to the tenth part of the losses that are nearest to it; linear
    throughout where losses span less than a decade beyond that.

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
    positive, beyond = values[values > 0], np.abs(values[values != 0])
    least = float(np.quantile(beyond, _LINEAR_SHARE)) if beyond.size else 0.0
    if not values.size:
        # Nothing is drawn, and a logarithmic axis would have no limits: the scale stays.
        pass
    elif positive.size == values.size:
        scale("log")
        label_between_decades(axis)
    elif positive.size and not (values < 0).any():
        least = float(positive.min())
        _symlog(axis, scale, least)
        # The axis is symmetric by itself, and nothing is below zero.
        limits(-least)
        name = f"{name}\n(linear below {least:.1e}: some are 0)"
    elif beyond.size and beyond.max() >= _DECADE * least:
        _symlog(axis, scale, least)
        name = f"{name}\n(linear up to ±{least:.1e}: some are negative)"
    else:
        scale("linear")
        name = f"{name}\n(linear axis: not all are positive)"
    lines = name.split("\n")
    axis.set_label_text(name if across else "\n".join(map(upright, lines)))


def _symlog(axis: Axis, scale: Any, least: float) -> None:
    scale("symlog", linthresh=least)
    axis.set_major_formatter(Spaced(LogFormatterSciNotation(linthresh=least)))
