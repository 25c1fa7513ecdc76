"""Success probability over lift size and a further axis, such as the in-degree."""

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .style import FittingText, axes_for, caption, figure_of, shortened, upright
from .ticks import named_ticks

# Letters of the name of a row.
_LETTERS = 18


def success_matrix(
    table: pandas.DataFrame, ax: Axes | None = None, *, name: str = "P(converged)"
) -> Axes:
    """A cell for each size and each value of a further axis: its colour is the probability.

    Args:
        table: as given by `flowlift.answers.success_probability`, of a study with one further
            axis: rows are its values, columns are lift sizes.
        ax: axes to draw into; a new figure if None.
        name: what the event is, for the colour bar.

    Returns:
        The axes. Cells hold the numbers of lifts that converged and that were tried, where they
        have room. Where runs were not observed the colour is the least share that it may be,
        hatched; where there was no run there is no cell.

    Raises:
        ValueError: if the table has not one further axis.
    """
    if table.index.nlevels != 2:
        raise ValueError(
            f"Argument `table` must be of one further axis, but has {table.index.nlevels - 1}; "
            "select a value of each other one: table.xs(value, level=axis)."
        )
    ax = axes_for(ax)
    axis, _ = table.index.names
    rows = list(dict.fromkeys(table.index.get_level_values(0)))
    sizes = sorted(set(table.index.get_level_values(1)))
    shares = np.full((len(rows), len(sizes)), np.nan)
    columns = [table[name].to_numpy() for name in ("converged", "runs", "not observed")]
    for (row, size), met, runs, unseen in zip(table.index.tolist(), *columns, strict=True):
        place = rows.index(row), sizes.index(size)
        shares[place] = met / runs
        cell = Rectangle((place[1] - 0.5, place[0] - 0.5), 1, 1, fill=False, lw=0)
        if unseen:
            cell.set(hatch="////", edgecolor="0.7")
        ax.add_patch(cell)
        # Numbers stand out from hatches and from dark cells.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        ax.add_artist(FittingText(cell, f"{met:.0f}/{runs:.0f}", bbox=box))
    edges = [np.arange(n + 1) - 0.5 for n in reversed(shares.shape)]
    mesh = ax.pcolormesh(
        *edges, np.ma.masked_invalid(shares), cmap="cividis", vmin=0, vmax=1, zorder=0
    )
    figure_of(ax).colorbar(mesh, ax=ax, label=upright(name))
    named_ticks(ax.xaxis, range(len(sizes)), [str(n) for n in sizes])
    named_ticks(ax.yaxis, range(len(rows)), [shortened(_word(v), _LETTERS) for v in rows])
    ax.set(xlabel="lift size n", ylabel=upright(shortened(str(axis), 2 * _LETTERS)))
    notes = ["Hatched: at least this share, as some flows had ended, unobserved."]
    text = f"Share of random lifts, per size and {axis}: {name}. Numbers: converged of runs."
    caption(ax, text, notes if table["not observed"].to_numpy().any() else ())
    return ax


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
