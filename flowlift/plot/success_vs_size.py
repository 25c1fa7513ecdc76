"""Success probability against lift size."""

from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from scipy.special import expit, logit

from ..answers import (
    LearningNumber,
    learning_number,
    not_observed_in_words,
    parts_of,
    variant_name,
)
from .keys import key
from .style import MARKERS, axes_for, caption, ordered_colours, upright
from .ticks import size_axis


def success_vs_size(
    table: pandas.DataFrame,
    ax: Axes | None = None,
    *,
    name: str = "P(converged)",
    delta: float | None = None,
    level: float = 0.95,
) -> Axes:
    """Success frequency per lift size with its exact interval, a line per variant.

    Args:
        table: as given by `flowlift.answers.success_probability`.
        ax: axes to draw into; a new figure if None.
        name: what the event is, for the axis.
        delta: draw the learning numbers of this delta, too: the level 1 - delta, the logistic fit
            (dashed) and, at that level, the monotone estimate (star) with its interval of sizes.
        level: of the table's intervals, and of that interval.

    Returns:
        The axes. Where runs were not observed the share has no mark: a thick bar shows where it
        lies. A dotted line counts the undecided of a variant as converged, which bounds the
        probability of the limit; it is left out where it is 1 at all sizes and bounds nothing.
    """
    ax = axes_for(ax)
    parts = list(parts_of(table))
    colours = ordered_colours(len(parts)) if len(parts) > 1 else ["C0"]
    for i, (variant, part) in enumerate(parts):
        sizes, p = part.index.to_numpy(), part["probability"].to_numpy()
        low, high = part["low"].to_numpy(), part["high"].to_numpy()
        # Variants stand beside one another: bars at one place would hide each other.
        shift = 1.03 ** (i - (len(parts) - 1) / 2)
        style: dict[str, Any] = {"color": colours[i], "fmt": f"{MARKERS[i % 11]}-", "ms": 4}
        x, bars, name_of = sizes * shift, [p - low, high - p], variant_name(variant) or None
        ax.errorbar(x, p, bars, capsize=3, lw=1.2, label=name_of, **style)
        _not_observed(ax, x, part, colours[i])
        if _bounds_the_limit(part):
            ax.plot(x, part["possible"], ":", color=colours[i])
        if delta is not None:
            number = learning_number(part, delta, level=level)
            _learning_number(ax, number, sizes, colours[i], 1 - delta - 0.025 * i)
    ax.set(ylim=(-0.03, 1.06), xlabel="lift size n", ylabel=upright(name))
    size_axis(ax, table.index.get_level_values(-1).unique())
    ax.grid(alpha=0.25)
    if len(parts) > 1:
        key(ax, [variant_name(variant) for variant, _ in parts], np.asarray(colours))
    caption(ax, _caption(table, delta, level, any(_bounds_the_limit(part) for _, part in parts)))
    return ax


def _not_observed(ax: Axes, x: np.ndarray, part: pandas.DataFrame, colour) -> None:
    """Where some runs were not observed: no mark, but where the share lies, and the interval."""
    here = np.isnan(part["probability"].to_numpy())
    if here.any():
        column = lambda name: part[name].to_numpy()[here]
        x, low, least = x[here], column("low"), column("converged") / column("runs")
        most = least + column("not observed") / column("runs")
        bars = [np.zeros(len(x)), column("high") - low]
        ax.errorbar(x, low, bars, fmt="none", capsize=3, lw=1.2, color=colour)
        ax.vlines(x, least, most, color=colour, lw=5, alpha=0.35)


def _bounds_the_limit(part: pandas.DataFrame) -> bool:
    """Whether some flows are undecided, and stuck ones leave a bound on what these may add."""
    open_ = part["undecided"] + part["diverging"]
    return bool(open_.to_numpy().any() and part["possible"].to_numpy().min() < 1)


def _learning_number(ax: Axes, number: LearningNumber, sizes, colour, height: float) -> None:
    ax.axhline(1 - number.delta, color="0.6", lw=0.8, zorder=0)
    low, high = number.above or sizes.min(), number.at_most or sizes.max()
    if number.above is not None or number.at_most is not None:
        ax.plot([low, high], [height] * 2, color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
    if number.estimate is not None:
        ax.plot([number.estimate], [height], "*", color=colour, ms=11, mec="white", zorder=5)
    fit = number.logistic
    if fit.size is not None and np.isfinite(fit.slope):
        n = np.geomspace(sizes.min(), sizes.max(), 200)
        eta = logit(1 - number.delta) + fit.slope * np.log(n / fit.size)
        ax.plot(n, expit(eta), "--", color=colour, lw=0.9, alpha=0.8)


def _caption(table: pandas.DataFrame, delta: float | None, level: float, dotted: bool) -> str:
    least, most = (int(end(table["runs"].to_numpy())) for end in (np.min, np.max))
    runs = f"{most}" if least == most else f"{least} to {most}"
    text = (
        f"Share of {runs} random lifts per size whose flow converged, with exact {100 * level:g}%"
        " intervals. Convergence with high probability means that it tends to 1."
    )
    if unseen := not_observed_in_words(table):
        text += f" {unseen}; there, no mark: the thick bar is where the share lies, the thin one"
        text += " the interval, whatever these runs would have done."
    if off := int(table["diverging"].to_numpy().sum()):
        text += f" {off} flows look as if they went off to infinity, counted as the undecided."
    if undecided := int((table["undecided"] + table["diverging"]).to_numpy().sum()):
        text += f" {undecided} of {table['runs'].to_numpy().sum()} flows are undecided, counted as"
        text += " not converged; dotted: as converged." if dotted else " not converged."
    if delta is not None:
        text += (
            f" Learning number at delta = {delta:g}: star, monotone estimate; bar, the sizes that"
            " the intervals leave; dashed, logistic fit."
        )
    return text
