"""A perceptron module drawn as a graph."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from ..modules import Constant, Input, Output, PerceptronModule
from ..modules.places import places
from .style import SMALL, TINY, axes_for, broken, caption, extent, roomy

_FILL = {Input: "#cfe3f5", Constant: "#eeeeee", Output: "#fbdcc0"}
_HIDDEN = "#ffffff"
# Letters of a line: of a box, and of what stands at an arrow.
_BOX, _LABEL = 16, 14
# Inches around a box, of an arrow beside its label, and between rows.
_PAD, _FREE, _BETWEEN = 0.09, 0.21, 0.45
# How far an arrow past other boxes bends, in parts of its length, and parallel ones from another.
_BEND, _SPREAD = 0.3, 0.35


def base_graph(module: PerceptronModule, ax: Axes | None = None) -> Axes:
    """Vertices from inputs (left) to outputs (right), with spaces, vertex maps and edge maps.

    Args:
        module: the base module.
        ax: axes to draw into; a new figure if None, as wide and high as its words need, which may
            be more than a column of a paper.

    Returns:
        The axes, without frame.
    """
    words = {name: _vertex_text(module, name) for name in module.order}
    at, pitch = _places(module, words)
    width, height = (max(axis) for axis in zip(*at.values(), strict=True))
    low = min((_middle(module, edge, at, pitch)[1] for edge in module.edges), default=0.0)
    (w, h), around = extent(words.values(), SMALL), 2 * _PAD
    ax = axes_for(ax)
    roomy(ax, width + w + 2 * around, height + h - low + 2 * around)
    ax.set(xlim=(-w / 2 - around, width + w / 2 + around))
    ax.set(ylim=(low - h / 2 - around, height + h / 2 + around))
    for name, (x, y) in at.items():
        fill = _FILL.get(type(module.by_name[name]), _HIDDEN)
        box = {"boxstyle": "round,pad=0.4", "facecolor": fill, "edgecolor": "0.3"}
        style = {"ha": "center", "va": "center", "fontsize": SMALL, "zorder": 3, "bbox": box}
        ax.text(x, y, words[name], **style)
    for edge in module.edges:
        _arrow(ax, module, edge, at, pitch)
    ax.axis("off")
    caption(
        ax,
        "Base graph: boxes are vertices with activation space and vertex map, arrows are edges "
        "with their edge map, from input (left) to output (right).",
    )
    return ax


def _places(
    module: PerceptronModule, words: dict[str, str]
) -> tuple[dict[str, tuple[float, float]], float]:
    """Where boxes stand, in inches, and how far columns are apart: no words touch."""
    found, box = places(module), extent(words.values(), SMALL)
    slanted = lambda edge: found[edge.source][1] != found[edge.target][1]
    level = [_edge_text(edge) for edge in module.edges if not slanted(edge)]
    others = [_edge_text(edge) for edge in module.edges if slanted(edge)]
    # The labels of arrows to neighbouring columns are half a column apart.
    pitch = max(
        box[0] + 2 * _PAD + extent(level, TINY)[0] + _FREE, 2 * extent(others, TINY)[0] + _FREE
    )
    row = box[1] + 2 * _PAD + _BETWEEN + 2 * extent(others, TINY)[1]
    return {name: (pitch * x, row * y) for name, (x, y) in found.items()}, pitch


def _vertex_text(module: PerceptronModule, name: str) -> str:
    vertex, shape = module.by_name[name], module.shapes[name]
    space = "R" if shape == () else "R^" + "x".join(map(str, shape))
    lines = [*broken(name, _BOX), space]
    if not isinstance(vertex, Input | Constant):
        lines += broken(str(vertex.map), _BOX)
    copies = getattr(vertex, "copies", None)
    return "\n".join(lines + ([f"{copies} copies"] if copies else []))


def _edge_text(edge) -> str:
    plain = edge.name == f"{edge.source}->{edge.target}"
    return "\n".join(broken(str(edge.map) if plain else f"{edge.name}: {edge.map}", _LABEL))


def _bend(module: PerceptronModule, edge, at, pitch: float) -> float:
    """Parallel edges fan out, away from the row; one past other vertices runs below them."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    twins = [e for e in module.edges if (e.source, e.target) == (edge.source, edge.target)]
    number, passes = twins.index(edge), x1 - x0 > 1.5 * pitch
    if y0 == y1 and not passes:
        return _SPREAD * (number - (len(twins) - 1) / 2)
    return _SPREAD * number + (_BEND if y0 == y1 else 0.0)


def _middle(module: PerceptronModule, edge, at, pitch: float) -> tuple[float, float]:
    """The middle of a quadratic Bezier curve lies halfway to its control point."""
    (x0, y0), (x1, y1) = at[edge.source], at[edge.target]
    bend = _bend(module, edge, at, pitch)
    return (x0 + x1 + bend * (y1 - y0)) / 2, (y0 + y1 - bend * (x1 - x0)) / 2


def _arrow(ax: Axes, module: PerceptronModule, edge, at, pitch: float) -> None:
    arrow = FancyArrowPatch(
        at[edge.source],
        at[edge.target],
        connectionstyle=f"arc3,rad={_bend(module, edge, at, pitch)}",
        arrowstyle="-|>",
        color="0.45",
        mutation_scale=9,
    )
    arrow.shrinkA, arrow.shrinkB = 14, 22
    ax.add_patch(arrow)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    style = {"fontsize": TINY, "color": "0.3", "ha": "center", "va": "center", "bbox": box}
    ax.text(*_middle(module, edge, at, pitch), _edge_text(edge), **style)
