"""A base graph drawn in columns, as SVG: where its vertices stand, boxes and arrows."""

import html
from collections.abc import Mapping
from typing import Any

from ..drawings import svg, text
from .places import places

_FILL = {"Input": "#4477aa", "Constant": "#999999", "Output": "#ee7733", "Hidden": "none"}
_BOX, _ROW, _GAP = (96.0, 34.0), 74.0, 70.0
_MARGIN = 14.0
# An arrow of two columns comes down by two half dips: past a box, and a word below it. From so many
# columns on arrows dip alike.
_DIP, _MOST_DIP = 28.0, 6
# Vertices that fit into a cell of a notebook; a deeper graph is not drawn, its table names it.
_MOST = 40


def base_graph_svg(module: Any, copies: Mapping[str, int] | None = None) -> str:
    """Vertices from inputs (left) to outputs (right), with edges and what they carry as titles.

    Args:
        module: a `PerceptronModule`, which shows itself by this: it is not imported here.
        copies: how many copies a lift has of each vertex, written into the boxes.

    Returns:
        An SVG element; one that says so if there are more vertices than can be looked at.
    """
    count = len(module.vertices)
    if count > _MOST:
        words = f"{count} vertices: plot.base_graph draws so many"
        return svg(420, 30, "base graph", [text(4, 18, words, anchor="start")])
    at = {name: (x * (_BOX[0] + _GAP), y * _ROW) for name, (x, y) in places(module).items()}
    width, height = (max(axis) for axis in zip(*at.values(), strict=True))
    # The lowest row stands below; arrows past others bend under it.
    flip = lambda x, y: (x + _BOX[0] / 2 + _MARGIN, height - y + _BOX[1] / 2 + _MARGIN)
    at = {name: flip(*place) for name, place in at.items()}
    parts = [_ARROW_HEAD]
    parts += [_arrow(module, edge, at) for edge in module.edges]
    parts += [_box(module, name, at[name], copies or {}) for name in at]
    bend = max((_dip(at, e) / 2 for e in module.edges), default=0.0)
    size = width + _BOX[0] + 2 * _MARGIN, height + _BOX[1] + 2 * _MARGIN + bend
    return svg(*size, "base graph", parts)


_ARROW_HEAD = (
    '<defs><marker id="flowlift-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
    'markerHeight="6" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker>'
    "</defs>"
)


def _box(module: Any, name: str, at, copies: Mapping[str, int]) -> str:
    vertex, (x, y) = module.by_name[name], at
    (w, h), fill = _BOX, _FILL[type(vertex).__name__]
    shape = f'x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.0f}" height="{h:.0f}" rx="5"'
    look = f'fill="{fill}" fill-opacity="0.18" stroke="currentColor" stroke-opacity="0.6"'
    below = str(getattr(vertex, "map", ""))
    number = copies.get(name, getattr(vertex, "copies", None))
    first = _short(name, 11) + (f" × {number}" if number and number > 1 else "")
    words = [text(x, y - 3 if below else y + 4, first, size=11)]
    words += [text(x, y + 11, _short(below, 18), size=9)] if below else []
    title = f"{name}: {type(vertex).__name__}" + (f", {below}" if below else "")
    return f"<g><title>{html.escape(title)}</title><rect {shape} {look}/>{''.join(words)}</g>"


def _dip(at, edge: Any) -> float:
    """How far an edge along a row bends to pass below others, more if it passes more of them."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    columns = round((x1 - x0) / (_BOX[0] + _GAP))
    return _DIP * min(columns, _MOST_DIP) if y0 == y1 and columns > 1 else 0.0


def _arrow(module: Any, edge: Any, at) -> str:
    """From box to box; parallel edges fan out."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    twins = [e for e in module.edges if (e.source, e.target) == (edge.source, edge.target)]
    spread = 22.0 * (twins.index(edge) - (len(twins) - 1) / 2)
    bend = spread + _dip(at, edge)
    start, end = x0 + _BOX[0] / 2, x1 - _BOX[0] / 2 - 2
    if type(module.by_name[edge.source]).__name__ == "Constant" and y0 < y1:
        # From above all others: it would cross the arrows along the row, and boxes on its way.
        end, y1 = x1 + spread, y1 - _BOX[1] / 2 - 2
    middle = (start + end) / 2, (y0 + y1) / 2 + bend
    line = f"M{start:.1f},{y0:.1f} Q{middle[0]:.1f},{middle[1]:.1f} {end:.1f},{y1:.1f}"
    look = (
        'fill="none" stroke="currentColor" stroke-opacity="0.55" marker-end="url(#flowlift-head)"'
    )
    told = f"{edge.name}: {edge.map}"
    # Halfway along a quadratic Bezier curve, which is halfway to its control point; beside a line
    # that falls or rises, above one that is level.
    anchor = "middle" if y0 == y1 else "start" if y0 < y1 else "end"
    aside = {"middle": 0, "start": 5, "end": -5}[anchor]
    place = middle[0] + aside, (y0 + y1) / 2 + bend / 2 - 4
    label = text(*place, _short(str(edge.map), 12), anchor=anchor, size=8)
    return f'<g><title>{html.escape(told)}</title><path d="{line}" {look}/>{label}</g>'


def _short(words: str, room: int) -> str:
    return words if len(words) <= room else words[: room - 1] + "…"
