"""Shares of outcomes, stacked."""

import numpy as np
import pandas
from matplotlib.axes import Axes

from .style import OUTCOME_COLOURS, axes_for, caption

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
        The axes; of the outcomes those that occur, and converged and stuck in any case.
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
        counts = [str(n) if s > 0.06 else "" for n, s in zip(table[word], share, strict=True)]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        texts = ax.bar_label(bars, counts, label_type="center", fontsize=8)
        for text in (text for text in texts if text.get_text()):
            text.set_bbox(box)
        base += share
    ax.set(xlabel="lift size n", ylabel="share of runs", ylim=(0, 1))
    ax.set_xticks(places, [str(n) for n in table.index])
    ax.legend(
        fontsize=8,
        ncols=2 if len(words) > 3 else 3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        frameon=False,
        handleheight=1.2,
    )
    what = f" Converged: {event}." if event else ""
    notes = [f"{w.capitalize()}: {_MEANINGS[w]}." for w in words if w in _MEANINGS]
    caption(ax, f"How flows ended, with numbers of runs.{what}", notes)
    return ax
