"""Shares of outcomes, stacked."""

import numpy as np
import pandas
from matplotlib.axes import Axes

from .keys import legend
from .style import OUTCOME_COLOURS, FittingText, axes_for, caption
from .ticks import named_ticks

_HATCHES = {
    "converged": "",
    "stuck": "xx",
    "not yet": "--",
    "diverging": "\\\\",
    "undecided": "..",
    "not observed": "//",
}
_MEANINGS = {
    "stuck": "ended at a certified critical point above",
    "not yet": "seen above at that time",
    "diverging": "seen above, with parameters that look as if they went off to infinity",
    "undecided": "seen above at the common end; may still converge",
    "not observed": "ended before, so that nobody knows",
}


def outcome_shares(table: pandas.DataFrame, ax: Axes | None = None, *, event: str = "") -> Axes:
    """What flows did, per lift size, as stacked shares with their counts.

    Args:
        table: as given by `flowlift.answers.success_probability`, of one variant.
        ax: axes to draw into; a new figure if None.
        event: what counts as converged, for the caption.

    Returns:
        The axes; of the outcomes those that occur, and converged and stuck in any case. A count
        is written where its bar is large enough to hold it.
    """
    ax = axes_for(ax)
    places, base = np.arange(len(table)), np.zeros(len(table))
    words = [w for w in OUTCOME_COLOURS if w in ("converged", "stuck") or table[w].to_numpy().any()]
    for word in words:
        share = (table[word] / table["runs"]).to_numpy()
        bars = ax.bar(
            places,
            share,
            bottom=base,
            color=OUTCOME_COLOURS[word],
            hatch=_HATCHES[word],
            edgecolor="0.6" if word == "not observed" else "white",
            linewidth=0.5,
            label=word,
        )
        # Letters stand out from hatches.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        for bar, count in zip(bars, table[word], strict=True):
            ax.add_artist(FittingText(bar, str(count), bbox=box))
        base += share
    ax.set(xlabel="lift size n", ylabel="share of runs", ylim=(0, 1))
    named_ticks(ax.xaxis, places, [str(n) for n in table.index])
    legend(ax, inside=0)
    what = f" Converged: {event}." if event else ""
    notes = [f"{w.capitalize()}: {_MEANINGS[w]}." for w in words if w in _MEANINGS]
    caption(ax, f"How flows ended, with numbers of runs.{what}", notes)
    return ax
