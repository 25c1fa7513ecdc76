"""A perceptron module drawn as a graph."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from ..modules import Constant, Input, Output, PerceptronModule
from ..modules.places import places
from .style import axes_for, caption

_FILL = {Input: "#cfe3f5", Constant: "#eeeeee", Output: "#fbdcc0"}
_HIDDEN = "#ffffff"
_STEP = 2.0


def base_graph(module: PerceptronModule, ax: Axes | None = None) -> Axes:
    """Vertices from inputs (left) to outputs (right), with spaces, vertex maps and edge maps.

    Args:
        module: the base module.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes, without frame.
    """
    ax = axes_for(ax)
    places = _places(module)
    for name, (x, y) in places.items():
        vertex = module.by_name[name]
        ax.text(
            x,
            y,
            _vertex_text(module, name),
            ha="center",
            va="center",
            fontsize="small",
            zorder=3,
            bbox={
                "boxstyle": "round,pad=0.4",
                "facecolor": _FILL.get(type(vertex), _HIDDEN),
                "edgecolor": "0.3",
            },
        )
    for edge in module.edges:
        _arrow(ax, module, edge, places)
    width, height = (max(axis) for axis in zip(*places.values(), strict=True))
    ax.set(xlim=(-0.7, width + 0.7), ylim=(-0.7 - 0.15 * width, height + 0.5))
    ax.axis("off")
    caption(
        ax,
        "Base graph: boxes are vertices with activation space and vertex map, arrows are edges "
        "with their edge map, from input (left) to output (right).",
    )
    return ax


def _places(module: PerceptronModule) -> dict[str, tuple[float, float]]:
    return {name: (_STEP * x, _STEP * y) for name, (x, y) in places(module).items()}


def _vertex_text(module: PerceptronModule, name: str) -> str:
    vertex, shape = module.by_name[name], module.shapes[name]
    space = "R" if shape == () else "R^" + "x".join(map(str, shape))
    lines = [name, space]
    if not isinstance(vertex, Input | Constant):
        lines += str(vertex.map).split("_")
    copies = getattr(vertex, "copies", None)
    return "\n".join(lines + ([f"{copies} copies"] if copies else []))


def _arrow(ax: Axes, module: PerceptronModule, edge, places) -> None:
    """Parallel edges fan out; an edge past other vertices runs below them."""
    (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
    twins = [e for e in module.edges if (e.source, e.target) == (edge.source, edge.target)]
    spread = 0.35 * (twins.index(edge) - (len(twins) - 1) / 2)
    passes = y0 == y1 and x1 - x0 > 1.5 * _STEP
    bend = spread + (0.3 if passes else 0.0)
    arc = f"arc3,rad={bend}"
    arrow = FancyArrowPatch(
        (x0, y0), (x1, y1), connectionstyle=arc, arrowstyle="-|>", color="0.45", mutation_scale=9
    )
    arrow.shrinkA, arrow.shrinkB = 14, 22
    ax.add_patch(arrow)
    # The middle of a quadratic Bezier curve lies halfway to its control point.
    middle = ((x0 + x1 + bend * (y1 - y0)) / 2, (y0 + y1 - bend * (x1 - x0)) / 2)
    name = f"{edge.name}: {edge.map}" if edge.name != f"{edge.source}->{edge.target}" else edge.map
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.text(*middle, str(name), fontsize="x-small", color="0.3", ha="center", va="center", bbox=box)
