"""Final loss against lift size."""

from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..answers import PowerLaw, common_end, last_known, power_law, there
from ..registry import register
from .bounds import quantile
from .keys import legend
from .style import axes_for, caption, label, seeds_per_size
from .ticks import loss_axis, size_axis

# Flows known at the common end; ended by a rule before; by a budget, a limit or a failure.
_KNOWN, _RULE, _BROKEN = "known", "rule", "broken"
_MARKERS = {
    _KNOWN: ({"marker": "o"}, "at the common end"),
    _RULE: ({"marker": "v", "mfc": "none"}, "stopped by a rule: at most"),
    _BROKEN: ({"marker": "x"}, "budget, limit or failure: at most"),
}
# More flows of a kind, at one size or of all, are distributions: points would lie on one another.
FEW, FEW_IN_ALL = 20, 150
_MIDDLE = (0.1, 0.9)
# Colours of the kinds, and where their bars stand, in units of the distance of sizes.
_BARS: dict[str, tuple[dict[str, Any], float]] = {
    _KNOWN: ({"color": "#0072B2"}, -0.2),
    _RULE: ({"color": "#E69F00"}, 0.0),
    _BROKEN: ({"color": "#CC79A7"}, 0.2),
}
# The part of a line that a name in the legend may take.
_INSIDE = 0.85


@register("figure")
def loss_vs_size(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Loss at the common end of the flows against lift size, on log-log axes.

    A flow that ended before the others, at no certified critical point, says no more than an upper
    bound: where a rule stopped it at a threshold its loss tells of the threshold. Such flows have
    hollow marks, or crosses, and no median or power law rests on their losses.

    Args:
        data: a study's results (`flowlift.store.load`), of one variant.
        ax: axes to draw into; a new figure if None.

    Returns:
        The axes: a point per seed, or, of more than 20 flows of a kind at a size or 150 in all,
        the range and the middle 80% of each size; the median where it is known, whatever became
        of flows that had ended; a power law where the data allow one
        (`flowlift.answers.power_law`).
    """
    ax = axes_for(ax)
    sizes, losses = data["size"].values, data.final_loss.transpose("size", "seed").values
    kinds = _kinds(data)
    where, spread = np.broadcast_to(sizes[:, None], losses.shape), []
    for kind, (style, name) in _MARKERS.items():
        chosen = (kinds == kind) & np.isfinite(losses)
        if chosen.sum(axis=1).max() > FEW or chosen.sum() > FEW_IN_ALL:
            spread.append(kind)
            _distributions(ax, sizes, losses, chosen, kind, name)
        elif chosen.any():
            points: dict[str, Any] = {"color": "C0", "alpha": 0.6, "ls": "", "ms": 4, **style}
            ax.plot(where[chosen], losses[chosen], label=name, **points)
    medians = [_median(row, kind) for row, kind in zip(losses, kinds, strict=True)]
    if np.isfinite(medians).any():
        ax.plot(sizes, medians, "-", marker=".", color="0.2", label="median over seeds")
    _law(ax, sizes, power_law(data))
    ax.set(xlabel=label(data["size"]))
    loss_axis(ax.yaxis, losses, "loss L at the end")
    size_axis(ax, sizes)
    ax.grid(alpha=0.25)
    legend(ax, inside=_INSIDE)
    _caption(ax, data, kinds, bool(spread))
    return ax


def _distributions(
    ax: Axes, sizes: np.ndarray, losses: np.ndarray, chosen: np.ndarray, kind: str, name: str
) -> None:
    """Of each size the range of losses, and the middle 80%; kinds beside one another."""
    style, shift = _BARS[kind]
    there = chosen.any(axis=1)
    rows = [np.sort(row[mask]) for row, mask in zip(losses[there], chosen[there], strict=True)]
    x = sizes[there] * np.exp(shift * _closest(sizes))
    # Values that occur: bounds are no numbers to take a mean of, and one may be zero.
    inner = [np.quantile(row, _MIDDLE, method="nearest") for row in rows]
    ax.vlines(x, [r[0] for r in rows], [r[-1] for r in rows], lw=0.8, zorder=1, **style)
    wide: dict[str, Any] = {"lw": 4.0, "alpha": 0.55, "zorder": 1, **style}
    ax.vlines(x, [low for low, _ in inner], [high for _, high in inner], label=name, **wide)


def _closest(sizes: np.ndarray) -> float:
    """The least distance of sizes on their logarithmic axis."""
    return float(np.diff(np.log(np.sort(sizes))).min()) if len(sizes) > 1 else 1.0


def _kinds(data: xarray.Dataset) -> np.ndarray:
    """Over size and seed, which of the three kinds each run is; empty where there is none."""
    from ..flow import Outcome

    known = last_known(data, common_end(data)).transpose("size", "seed").values
    done = there(data).transpose("size", "seed").values
    reached = [outcome.value for outcome in Outcome if outcome.reached]
    by_rule = np.isin(data.result.transpose("size", "seed").values.astype(str), reached)
    return np.where(done, np.where(known, _KNOWN, np.where(by_rule, _RULE, _BROKEN)), "")


def _median(losses: np.ndarray, kinds: np.ndarray) -> float:
    """NaN where it depends on what flows would have done after their end."""
    done = kinds != ""
    middle, sure = quantile(losses[done], kinds[done] == _KNOWN, 0.5)
    return float(middle) if sure else np.nan


def _law(ax: Axes, sizes: np.ndarray, law: PowerLaw) -> None:
    if law.refused:
        return
    ends = np.array([sizes.min(), sizes.max()], float)
    name = f"$n^{{-{law.exponent:.2f}}}$, exponent in [{law.low:.2f}, {law.high:.2f}]"
    ax.plot(ends, law.prefactor * ends**-law.exponent, "--", color="#D55E00", label=name)


def _caption(ax: Axes, data: xarray.Dataset, kinds: np.ndarray, spread: bool) -> None:
    end = float(common_end(data))
    when = f"t = {end:.4g}, the common end" if np.isfinite(end) else "their ends; none is common"
    text = f"Loss of each flow at {when}, {seeds_per_size(data.final_loss)}."
    text += " If gradient flow reaches lower losses the larger the lift, they fall to the right."
    notes = ["Bars: the range of the flows of a size, and the middle 80% of them thick."]
    notes = notes if spread else []
    if np.isin(kinds, (_RULE, _BROKEN)).any():
        notes.append(
            "Triangles, crosses and bars that are not blue ended before: upper bounds, and no line"
            " rests on them."
        )
    caption(ax, text, notes)
