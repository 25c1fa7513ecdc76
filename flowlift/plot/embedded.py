"""A figure as images of a page, in bands that one printed page can hold."""

import base64
import io
import itertools
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from .style import caption_of

_DPI = 160
# CSS pixels per inch of a figure at most, and the width in inches from which it has two panels.
_SHOWN, _WIDE = 115, 6.0
# Rows of panels of an image: three, across the page, leave room for a title and a caption.
_ROWS = 3


def embedded(name: str, title: str, figure: Figure) -> dict[str, Any]:
    """What a page shows of a figure; its caption becomes text of the page and alternative text.

    Args:
        name: of the figure.
        title: its heading.
        figure: the figure; it loses its caption.

    Returns:
        `name`, `title`, `caption`; `images` as data URIs, from top to bottom; `width` in CSS pixels
        at most; whether it is `wide`, of more than one panel beside another, and whether an image
        holds several rows (`tall`).
    """
    text = caption_of(figure) or " ".join(figure.get_supxlabel().split())
    figure.supxlabel("")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    rows = len({spec.rowspan.start for _, spec in _specs(figure)})
    return {
        "name": name,
        "title": title,
        "caption": text,
        "images": _bands(figure, buffer) if rows > _ROWS else [_uri(buffer)],
        "width": round(figure.get_figwidth() * _SHOWN),
        "wide": figure.get_figwidth() > _WIDE,
        "tall": rows > 1,
    }


def _bands(figure: Figure, drawn: io.BytesIO) -> list[str]:
    drawn.seek(0)
    pixels, images = plt.imread(drawn), []
    edges = [round(edge * len(pixels)) for edge in bands(figure)]
    for top, end in itertools.pairwise(edges):
        images.append(io.BytesIO())
        plt.imsave(images[-1], pixels[top:end], format="png")
    return list(map(_uri, images))


def bands(figure: Figure, rows: int = _ROWS) -> list[float]:
    """Where to cut a drawn figure between rows of panels, so that no label is cut.

    Args:
        figure: the figure, drawn before.
        rows: how many rows of panels a band holds at most.

    Returns:
        Edges of the bands as fractions of the height, from 0 at the top to 1.
    """
    extents = _rows(figure)
    height = figure.bbox.height
    cuts = [
        1 - (extents[i - 1][0] + extents[i][1]) / 2 / height
        for i in range(rows, len(extents), rows)
    ]
    return [0.0, *cuts, 1.0]


def _rows(figure: Figure) -> list[tuple[float, float]]:
    """Bottom and top of each row of panels with all their labels, in pixels, topmost first."""
    extents: dict[int, list[tuple[float, float]]] = {}
    for ax, spec in _specs(figure):
        if (box := ax.get_tightbbox()) is not None:
            extents.setdefault(spec.rowspan.start, []).append((box.y0, box.y1))
    return [
        (min(low for low, _ in extents[row]), max(high for _, high in extents[row]))
        for row in sorted(extents)
    ]


def _specs(figure: Figure) -> list[tuple[Axes, SubplotSpec]]:
    """The panels, and where they stand."""
    found = [(ax, ax.get_subplotspec()) for ax in figure.axes]
    return [(ax, spec.get_topmost_subplotspec()) for ax, spec in found if spec is not None]


def _uri(image: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
