"""A base graph drawn in columns, as SVG: where its vertices stand, boxes and arrows."""

import html
from collections.abc import Mapping
from typing import Any

from ..drawings import svg, text
from .places import places

_FILL = {"Input": "#4477aa", "Constant": "#999999", "Output": "#ee7733", "Hidden": "none"}
_BOX, _ROW, _GAP = (96.0, 34.0), 74.0, 70.0
_MARGIN = 14.0
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
    bend = 40.0 if any(_passes(at, e) for e in module.edges) else 0.0
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


def _passes(at, edge: Any) -> bool:
    """Whether an edge runs along a row past another vertex."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    return y0 == y1 and x1 - x0 > 1.5 * (_BOX[0] + _GAP)


def _arrow(module: Any, edge: Any, at) -> str:
    """From box to box; parallel edges fan out."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    twins = [e for e in module.edges if (e.source, e.target) == (edge.source, edge.target)]
    spread = 22.0 * (twins.index(edge) - (len(twins) - 1) / 2)
    bend = spread + (60.0 if _passes(at, edge) else 0.0)
    start, end = x0 + _BOX[0] / 2, x1 - _BOX[0] / 2 - 2
    middle = (start + end) / 2, (y0 + y1) / 2 + bend
    line = f"M{start:.1f},{y0:.1f} Q{middle[0]:.1f},{middle[1]:.1f} {end:.1f},{y1:.1f}"
    look = (
        'fill="none" stroke="currentColor" stroke-opacity="0.55" marker-end="url(#flowlift-head)"'
    )
    told = f"{edge.name}: {edge.map}"
    # Halfway along a quadratic Bezier curve, which is halfway to its control point.
    label = text(middle[0], (y0 + y1) / 2 + bend / 2 - 4, _short(str(edge.map), 12), size=8)
    return f'<g><title>{html.escape(told)}</title><path d="{line}" {look}/>{label}</g>'


def _short(words: str, room: int) -> str:
    return words if len(words) <= room else words[: room - 1] + "…"
