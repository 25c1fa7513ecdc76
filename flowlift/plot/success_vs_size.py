"""Success probability against lift size."""

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from .style import axes_for, caption


def success_vs_size(
    table: pandas.DataFrame, ax: Axes | None = None, *, name: str = "P(converged)"
) -> Axes:
    """Success frequency per lift size with its exact interval.

    Args:
        table: as given by `flowlift.experiments.success_probability`.
        ax: axes to draw into; a new figure if None.
        name: what the event is, for the axis.

    Returns:
        The axes.
    """
    ax = axes_for(ax)
    sizes, p = table.index.to_numpy(), table["probability"].to_numpy()
    bars = [p - table["low"].to_numpy(), table["high"].to_numpy() - p]
    ax.errorbar(sizes, p, bars, fmt="o-", color="C0", capsize=3)
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="lift size n", ylabel=name)
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.25)
    caption(
        ax,
        f"Share of {np.max(table['runs'].to_numpy())} random lifts per size whose flow converged,"
        " with exact 95% intervals. Convergence with high probability means that it tends to 1.",
    )
    return ax
