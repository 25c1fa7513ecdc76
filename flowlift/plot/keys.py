"""Which colour is what: a legend of few curves, a colour bar of many."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import FixedFormatter
from matplotlib.transforms import ScaledTranslation

from .style import SMALL, figure_of, higher, letters_above, shortened
from .ticks import Spaced

# From so many curves on a legend would hide them.
MANY = 7
# Names stand below the axes that are longer than this part of a line of the panel.
_INSIDE = 0.4
# A colour bar shows so many letters.
_BAR = 26
# Points from the axes to a legend below: ticks, their labels and the axis label are above it.
_UNDER = 34.0
_LINE_POINTS = 12.0


def names_of(sizes: Iterable) -> list[str]:
    """What curves of lift sizes are called: "n = 8"."""
    return [f"n = {size}" for size in sizes]


def key(
    ax: Axes, names: Sequence[str], colours: np.ndarray, title: str = "", *, own: Sequence[str] = ()
) -> None:
    """Say which colour is what, in an order of its own: a legend up to six, else a colour bar.

    Args:
        ax: the axes, which hold artists labelled by the names.
        names: of the curves, in their order.
        colours: of the curves.
        title: what the names are of.
        own: labels beyond the names that a legend shows in any case.
    """
    if len(names) < MANY:
        legend(ax, title)
        return
    if own:
        legend(ax, "", only=own)
    edges = np.arange(len(names) + 1) - 0.5
    scale = ScalarMappable(BoundaryNorm(edges, len(names)), ListedColormap(colours))
    texts = FixedFormatter([shortened(name.removeprefix("n = "), _BAR) for name in names])
    # A bar as thick as a line of text is enough to tell colours apart.
    bar = figure_of(ax).colorbar(
        scale, ax=ax, ticks=np.arange(len(names)), format=Spaced(texts), aspect=30, pad=0.02
    )
    bar.ax.tick_params(length=2, labelsize=SMALL)
    bar.ax.minorticks_off()
    bar.set_label(title)


def legend(
    ax: Axes, title: str = "", *, only: Sequence[str] | None = None, inside: float = _INSIDE
) -> None:
    """A legend: where it hides least, or below the axes if a name is long.

    Args:
        ax: the axes.
        title: of the legend.
        only: labels that it shows; None: all.
        inside: the part of a line that a name inside may take; 0: all stand below.
    """
    handles, labels = ax.get_legend_handles_labels()
    pairs = [(h, n) for h, n in zip(handles, labels, strict=True) if only is None or n in only]
    if not pairs:
        return
    handles, labels = zip(*pairs, strict=True)
    line = letters_above(ax)
    if max(map(len, labels)) <= inside * line:
        ax.legend(handles, labels, title=title, fontsize=SMALL, title_fontsize=SMALL)
        return
    columns = max(1, min(3, len(labels), line // (max(map(len, labels)) + 4)))
    texts = [textwrap.fill(name, line) for name in labels]
    rows = sum(text.count("\n") + 1 for text in texts[::columns])
    higher(ax, rows * _LINE_POINTS)
    under = ScaledTranslation(0, -_UNDER / 72, figure_of(ax).dpi_scale_trans)
    ax.legend(
        handles,
        texts,
        title=title,
        fontsize=SMALL,
        title_fontsize=SMALL,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + under,
        borderaxespad=0,
        frameon=False,
        handleheight=1.2,
    )
