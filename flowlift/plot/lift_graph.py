"""A small lift drawn as a layered graph, with an in-cone and chosen copies picked out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..diagnostics import in_cone
from ..lift import Lift
from ..modules import Constant, PerceptronModule
from .style import SMALL, axes_for, broken, caption, extent, roomy

_PLAIN, _CONE, _MARKED = "0.8", "#d1495b", "#2a9d8f"
_GAP = 1.5
# Letters of a line of a name; columns are at least as far apart as these letters.
_NAME, _APART = 12, "xxxx"


def lift_graph(
    lift: Lift,
    ax: Axes | None = None,
    *,
    cone: tuple[str, int] | None = None,
    marked: Mapping[str, Bool[np.ndarray, " copies"]] | None = None,
    limit: int = 5000,
) -> Axes:
    """Copies as dots, one column a layer, from inputs (left) to outputs (right); edges as lines.

    Args:
        lift: the lift.
        ax: axes to draw into; a new figure if None, as wide as the names of its columns need.
        cone: a base vertex and a copy whose in-cone is drawn in red.
        marked: masks over the copies of base vertices, filled green: e.g.
            `{"h2": good_copies(lift, witness, "h2")}`.
        limit: the largest number of edges drawn; more are a grey area.

    Returns:
        The axes, without frame.

    Raises:
        ValueError: for too many edges, an unknown vertex or copy, or masks that do not fit.
    """
    _check(lift, marked or {}, limit)
    chosen = None if cone is None else in_cone(lift, *cone)
    ax = axes_for(ax)
    places = _places(lift)
    words = {name: "\n".join(broken(name, _NAME)) for name in places}
    columns = len(layers(lift.module))
    roomy(ax, columns * extent([*words.values(), _APART], SMALL)[0], 0.0)
    for name, fibre in lift.fibres.items():
        edge = lift.module.edge_by_name[name]
        sources, targets = fibre.edges()
        ends = places[edge.source][sources], places[edge.target][targets]
        lines = np.stack(ends, axis=1)
        ax.add_collection(LineCollection(list(lines), colors=_PLAIN, linewidths=0.5, zorder=1))
        if chosen is not None:
            red = list(lines[chosen.edges[name]])
            ax.add_collection(LineCollection(red, colors=_CONE, linewidths=1.4, zorder=2))
    for name, points in places.items():
        inside = np.isin(np.arange(len(points)), [] if chosen is None else chosen.copies[name])
        good = np.zeros(len(points), bool) if not marked or name not in marked else marked[name]
        rim = np.where(inside, _CONE, "0.35")
        fill = np.where(good, _MARKED, np.where(inside, "#f6d5d9", "white"))
        ax.scatter(
            *points.T, s=26, c=fill.tolist(), edgecolors=rim.tolist(), linewidths=0.9, zorder=3
        )
        above = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "zorder": 4}
        ax.annotate(words[name], points[0], fontsize=SMALL, **above)
    ax.margins(0.06, 0.09)
    ax.axis("off")
    caption(ax, _text(lift, cone, marked or {}))
    return ax


def _check(lift: Lift, marked: Mapping[str, np.ndarray], limit: int) -> None:
    edges = sum(len(fibre.edges()[0]) for fibre in lift.fibres.values())
    if edges > limit:
        raise ValueError(
            f"Argument `limit` must be at least the {edges} edges of the lift, but is {limit}; "
            "draw a smaller lift, or raise it."
        )
    for name, mask in marked.items():
        copies = lift.copies.get(name)
        if np.shape(mask) != (copies,):
            raise ValueError(
                f"Argument `marked` must hold a mask over the copies of each vertex, but has shape "
                f"{np.shape(mask)} for {name!r} of {copies} copies; correct it."
            )


def layers(module: PerceptronModule) -> list[list[str]]:
    """Base vertices by the length of the longest path from an input; constants above the first.

    Args:
        module: the base module.

    Returns:
        Names, layer by layer.
    """
    depth: dict[str, int] = {}
    for name in module.order:
        depth[name] = 1 + max((depth[e.source] for e in module.entering(name)), default=-1)
    columns: list[list[str]] = [[] for _ in range(1 + max(depth.values()))]
    constants_last = sorted(module.order, key=lambda n: isinstance(module.by_name[n], Constant))
    for name in constants_last:
        columns[depth[name]].append(name)
    return columns


def _places(lift: Lift) -> dict[str, np.ndarray]:
    """Evenly spaced down each column, blocks of one base vertex apart, all columns as tall."""
    columns = layers(lift.module)
    rows = [sum(lift.copies[n] for n in names) + _GAP * (len(names) - 1) for names in columns]
    places = {}
    for x, (names, total) in enumerate(zip(columns, rows, strict=True)):
        # A column of one dot stands in the middle.
        step = max(rows) / total
        below = 0.0
        for name in names:
            y = (below + 0.5 + np.arange(lift.copies[name])[::-1]) * step
            places[name] = np.stack([np.full_like(y, x * max(rows) / 3), y], axis=1)
            below += lift.copies[name] + _GAP
    return places


def _text(lift: Lift, cone, marked: Mapping[str, np.ndarray]) -> str:
    text = "Dots are lifted vertices, one column a layer; lines are lifted edges."
    if cone is not None:
        tree = "a tree" if in_cone(lift, *cone).is_tree else "no tree"
        text += f" Red: the in-cone of copy {cone[1]} of {cone[0]}, {tree}."
    if marked:
        counts = ", ".join(f"{int(np.sum(m))} of {len(m)} in {n}" for n, m in marked.items())
        text += f" Green: the chosen copies, {counts}."
    return text
