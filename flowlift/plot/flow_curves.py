"""Single flows as SVG: each says its size, seed and run when one points at it, without a script."""

import html
from typing import NamedTuple

import numpy as np
import xarray

from ..answers import there
from ..drawings import svg, text
from .style import ordered_colours

# As many flows and places of each as a page can hold: 200 kB.
MOST_FLOWS, _PLACES = 300, 24
_WIDTH, _HEIGHT = 640.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 12.0, 22.0, 38.0


class FlowCurves(NamedTuple):
    """Single flows, drawn.

    Attributes:
        svg: the element, empty if there is nothing to draw.
        flows: size and seed of those that are shown: the first seeds of every size alike.
        of: how many there are.
    """

    svg: str
    flows: list[tuple[int, int]]
    of: int


def flow_curves(data: xarray.Dataset, most: int = MOST_FLOWS, name: str = "") -> FlowCurves:
    """Loss against time of single flows, with titles.

    Args:
        data: a study's results, of one variant.
        most: flows that are shown.
        name: where one is given, each flow is a link to `anchor(name, size, seed)`.

    Returns:
        The drawing, and which flows it shows.
    """
    done = there(data).transpose("size", "seed").values
    each = max(1, most // max(1, done.any(axis=1).sum()))
    chosen = done & (np.cumsum(done, axis=1) <= each)
    # More sizes than flows that are shown: the first ones.
    places = np.argwhere(chosen)[:most]
    flows = [_polyline(data, int(i), int(j)) for i, j in places]
    points = np.concatenate([points for points, _ in flows]) if flows else np.zeros((0, 2))
    if not len(points):
        return FlowCurves("", [], int(done.sum()))
    logarithmic = bool((points[:, 1] > 0).all())
    scale = _scaled(points, logarithmic)
    colours = ordered_colours(done.shape[0])
    parts = _frame(data, points, logarithmic)
    shown = [(int(data["size"][i]), int(data["seed"][j])) for i, j in places]
    for (i, _), one, (line, title) in zip(places, shown, flows, strict=True):
        drawn = _drawn(scale(line), title, _hex(colours[i]))
        # A page of 300 flows must not take 300 strokes of the tabulator to pass.
        link = f'<a href="#{anchor(name, *one)}" tabindex="-1">{drawn}</a>'
        parts.append(link if name else drawn)
    return FlowCurves(svg(_WIDTH, _HEIGHT, "loss of single flows", parts), shown, int(done.sum()))


def anchor(name: str, size: int, seed: int) -> str:
    """What a page calls the place where it says how a flow is repeated.

    Args:
        name: of the drawing.
        size: of the flow.
        seed: of the flow.

    Returns:
        An identifier.
    """
    return f"{name}-{size}-{seed}"


def _polyline(data: xarray.Dataset, i: int, j: int) -> tuple[np.ndarray, str]:
    """Places of one flow, (m, 2), both ends among them, and what it is in words."""
    one = data.isel(size=i, seed=j)
    t, loss = data.time.values, one.loss.values
    kept = np.flatnonzero((t > 0) & np.isfinite(loss))
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, _PLACES).astype(int))] if len(kept) else []
    line = np.stack([t[kept], loss[kept]], axis=1)
    end, final = float(one.end_time), float(one.final_loss)
    if end > 0 and np.isfinite(final) and not (len(line) and end <= line[-1, 0]):
        line = np.concatenate([line, [[end, final]]])
    run = str(one["run"].values)[:12] if "run" in data else ""
    title = f"n = {one['size'].item()}, seed {one['seed'].item()}"
    title += f", run {run}" if run else ""
    return line, f"{title}: loss {final:.4g} at t = {end:.4g}, {one.result.item()}"


def _scaled(points: np.ndarray, logarithmic: bool):
    def axis(values):
        loss = np.log(values[:, 1]) if logarithmic else values[:, 1]
        return np.stack([np.log(values[:, 0]), loss], axis=1)

    low, high = axis(points).min(axis=0), axis(points).max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    inner = np.array([_WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM])

    def place(line):
        share = (axis(line) - low) / width
        return np.array([_LEFT, _TOP]) + np.stack([share[:, 0], 1 - share[:, 1]], 1) * inner

    return place


def _frame(data: xarray.Dataset, points: np.ndarray, logarithmic: bool) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    line = f"M{_LEFT},{_TOP} V{bottom} H{right}"
    (first, least), (last, most) = points.min(axis=0), points.max(axis=0)
    units = data.time.attrs.get("units", "")
    name = f"flow time t{f' [{units}]' if units else ''}, log scale"
    return [
        f'<path d="{line}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>',
        text(_LEFT, bottom + 14, f"{first:.3g}", anchor="start"),
        text(right, bottom + 14, f"{last:.3g}", anchor="end"),
        text((_LEFT + right) / 2, bottom + 29, name, size=11),
        text(4, 12, "loss L" + (", log scale" if logarithmic else ""), anchor="start", size=11),
        text(_LEFT - 4, bottom, f"{least:.3g}", anchor="end"),
        text(_LEFT - 4, _TOP + 8, f"{most:.3g}", anchor="end"),
    ]


def _drawn(line: np.ndarray, title: str, colour: str) -> str:
    """The curve, its places as dots that are wide enough to point at, and its title."""
    pairs = [f"{x:.0f},{y:.0f}" for x, y in line]
    # Lines of no length with round ends are dots, and one path holds them all.
    dots = "".join(f"M{pair}h0" for pair in pairs)
    return (
        f'<g stroke="{colour}" fill="none"><title>{html.escape(title)}</title>'
        f'<polyline points="{" ".join(pairs)}" stroke-opacity="0.6"/>'
        f'<path d="{dots}" stroke-width="5" stroke-linecap="round"/></g>'
    )


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in colour[:3])
