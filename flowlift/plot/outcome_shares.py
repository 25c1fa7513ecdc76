"""Shares of outcomes, stacked."""

import numpy as np
import pandas
from matplotlib.axes import Axes

from .style import OUTCOME_COLOURS, axes_for, caption

_HATCHES = {"converged": "", "stuck": "xx", "undecided": ".."}


def outcome_shares(table: pandas.DataFrame, ax: Axes | None = None, *, event: str = "") -> Axes:
    """Converged, stuck and undecided flows per lift size, as stacked shares with their counts.

    Args:
        table: as given by `flowlift.answers.success_probability`, of one variant.
        ax: axes to draw into; a new figure if None.
        event: what counts as converged, for the caption.

    Returns:
        The axes.
    """
    ax = axes_for(ax)
    places, base = np.arange(len(table)), np.zeros(len(table))
    for word, colour in OUTCOME_COLOURS.items():
        share = (table[word] / table["runs"]).to_numpy()
        bars = ax.bar(
            places,
            share,
            bottom=base,
            color=colour,
            hatch=_HATCHES[word],
            edgecolor="white",
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
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        frameon=False,
        handleheight=1.2,
    )
    what = f" Converged: {event}." if event else ""
    caption(
        ax,
        f"How flows ended, with numbers of runs.{what} Stuck: ended at a certified critical point"
        " above; undecided: all else. Undecided flows may still converge.",
    )
    return ax
