"""Small drawings as SVG, in the colours of the page that they stand in; no plotting library."""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# Of a curve; a stroke cannot show more.
_POINTS = 240
_WIDTH, _HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 14, 34
# Of the first and of the last curve: both stand out from white and from dark grounds.
_DARK, _LIGHT = (0x44, 0x77, 0xAA), (0xDD, 0x99, 0x33)


def svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """An SVG element that is read aloud by its title.

    Args:
        width: in pixels.
        height: in pixels.
        title: what is drawn.
        parts: its elements.

    Returns:
        The element.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    style = "font-family:sans-serif;font-size:10px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} style="{style}">'
    return f"{head}<title>{html.escape(title)}</title>{''.join(parts)}</svg>"


def text(x: float, y: float, what: str, *, anchor: str = "middle", size: int = 10) -> str:
    """A word.

    Args:
        x: where it stands, in pixels.
        y: its base line.
        what: the word.
        anchor: "start", "middle" or "end": what of it stands at x.
        size: in pixels.

    Returns:
        The element.
    """
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="currentColor">{html.escape(what)}</text>'


def curve(times: Any, values: Any, x_name: str, y_name: str) -> str:
    """A curve, on logarithmic axes where all that is drawn is positive.

    A time of 0 has no place on a logarithmic axis: the first point stands at the next time then, at
    the left edge, which the name of the axis says.

    Args:
        times: numbers, increasing, (m,), such as an array.
        values: likewise, (m,); those that are no finite numbers are left out.
        x_name: of the axis.
        y_name: of the axis.

    Returns:
        The SVG element; one that says so where there is nothing to draw.
    """
    return curves(times, [("", values)], x_name, y_name)


def curves(times: Any, rows: Sequence[tuple[str, Any]], x_name: str, y_name: str) -> str:
    """Several curves at the same times, from dark to light; otherwise as `curve`.

    Args:
        times: numbers, increasing, (m,).
        rows: for each curve what it is, shown when one points at it, and its values, (m,).
        x_name: of the axis.
        y_name: of the axis.

    Returns:
        The SVG element; one that says so where there is nothing to draw.
    """
    kept = [(name, _kept(times, values)) for name, values in rows]
    kept = [(name, points) for name, points in kept if len(points) > 1]
    title = f"{y_name} against {x_name}"
    if not kept:
        return svg(_WIDTH, 30, title, [text(4, 18, "nothing to draw yet", anchor="start")])
    first = min(points[0][0] for _, points in kept)
    second = min(points[1][0] for _, points in kept)
    log_x = first >= 0 and second > 0 and max(p[-1][0] for _, p in kept) > 10 * second
    log_y = all(y > 0 for _, points in kept for _, y in points)
    if log_x:
        kept = [(name, [(x or second, y) for x, y in points]) for name, points in kept]
    # Each point once: what all curves hold decides the axes.
    every = sorted(point for _, points in kept for point in points)
    place = _places(every, log_x, log_y)
    parts = [_line(name, map(place, points), i, len(kept)) for i, (name, points) in enumerate(kept)]
    return svg(_WIDTH, _HEIGHT, title, parts + _axes(every, x_name, y_name, log_x, log_y))


def _line(name: str, places: Iterable[tuple[float, float]], i: int, of: int) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    share = i / (of - 1) if of > 1 else 0.0
    shade = [round(a + share * (b - a)) for a, b in zip(_DARK, _LIGHT, strict=True)]
    colour = "#" + "".join(f"{c:02x}" for c in shade)
    title = f"<title>{html.escape(name)}</title>" if name else ""
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"'
    return f"{line}>{title}</polyline>" if title else f"{line}/>"


def _places(points: Sequence[tuple[float, float]], log_x: bool, log_y: bool):
    """Where in the drawing a point stands; a constant in the middle."""
    xs, ys = _scale([x for x, _ in points], log_x), _scale([y for _, y in points], log_y)
    inner = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return _LEFT + xs(point[0]) * inner[0], _TOP + (1 - ys(point[1])) * inner[1]

    return place


def _kept(times: Any, values: Any) -> list[tuple[float, float]]:
    """Finite points, evenly by number where there are too many; both ends stay."""
    count = min(len(times), len(values))
    stride = max(1, math.ceil(count / _POINTS))
    places = [*range(0, count - 1, stride), count - 1] if count else []
    pairs = [(float(times[i]), float(values[i])) for i in places]
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _scale(values: list[float], logarithmic: bool) -> Callable[[float], float]:
    """Into [0, 1]; a constant in the middle."""
    of = math.log if logarithmic else float
    low, high = of(min(values)), of(max(values))
    # Differences of very large numbers overflow where halves do not.
    width = high / 2 - low / 2
    return lambda v: (of(v) / 2 - low / 2) / width if width > 0 else 0.5


def _axes(points, x_name: str, y_name: str, log_x: bool, log_y: bool) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    line = f"M{_LEFT},{_TOP} V{bottom} H{right}"
    frame = f'<path d="{line}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
    xs, ys = [x for x, _ in points], [y for _, y in points]
    scale = lambda name, log: f"{name} (log scale)" if log else name
    low, high = f"{min(ys):.3g}", f"{max(ys):.3g}"
    parts = [frame, text(_LEFT, bottom + 13, f"{xs[0]:.3g}", anchor="start")]
    parts += [text(right, bottom + 13, f"{xs[-1]:.3g}", anchor="end")]
    parts += [text((_LEFT + right) / 2, bottom + 27, scale(x_name, log_x))]
    parts += [text(4, 10, scale(y_name, log_y), anchor="start")]
    if low == high:
        return [*parts, text(_LEFT - 4, (_TOP + bottom) / 2 + 3, low, anchor="end")]
    heights = (bottom, low), (_TOP + 8, high)
    return parts + [text(_LEFT - 4, y, word, anchor="end") for y, word in heights]
