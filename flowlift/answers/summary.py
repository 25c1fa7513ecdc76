"""Tables of results."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import xarray

_HELD_OUT = {
    "final_held_out_loss": "held-out loss",
    "final_accuracy": "accuracy",
    "final_held_out_accuracy": "held-out accuracy",
}


def further_axes(results: xarray.Dataset) -> list[str]:
    """The dimensions of a study's grid besides size and seed."""
    return [str(axis) for axis in results.final_loss.dims if axis not in ("size", "seed")]


def by_variant(results: xarray.Dataset) -> Iterator[tuple[dict[str, Any], xarray.Dataset]]:
    """The parts of results along a study's further axes, so that none is averaged over.

    Args:
        results: as given by `load`.

    Yields:
        For each combination of the axes' values, the combination and its part, with dimensions
        `size`, `seed` and `time`; for a study without further axes, all of it.
    """
    axes = further_axes(results)
    for values in itertools.product(*(results[axis].values.tolist() for axis in axes)):
        selection = dict(zip(axes, values, strict=True))
        yield selection, results.sel(selection)


def index_of(axes: list[str], rows: list[tuple]) -> pandas.Index:
    """The index of a table with a row per lift size, and per variant if there are any.

    Args:
        axes: the further axes.
        rows: values along them and the size, per row.

    Returns:
        The index.
    """
    if not axes:
        return pandas.Index([size for (size,) in rows], name="lift size")
    return pandas.MultiIndex.from_tuples(rows, names=[*axes, "lift size"])


def summary(results: xarray.Dataset) -> pandas.DataFrame:
    """One row per lift size: what was trained, how far, how long and how it ended.

    Args:
        results: as given by `load`.

    Returns:
        A table indexed by the study's further axes, if any, and the lift size: median numbers of
        parameters and edges, the final loss as median and range over seeds, the least and the
        greatest flow time reached, the seconds of all seeds, and how many flows ended how. Where
        there are held-out data also the medians of the last loss and accuracies on them.
    """
    rows, index = [], []
    for selection, part in by_variant(results):
        for size in part["size"].values.tolist():
            cell = part.sel(size=size)
            if np.isfinite(cell.end_time).any():
                rows.append(_row(cell))
                index.append((*selection.values(), size))
    return pandas.DataFrame(rows, index=index_of(further_axes(results), index))


def as_text(table: pandas.DataFrame, *, index: bool = True) -> str:
    """The table for a terminal, with its index as columns or without."""
    return (table.reset_index() if index else table).to_string(index=False)


def _row(cell: xarray.Dataset) -> dict[str, object]:
    there = np.isfinite(cell.end_time.values)
    loss, time = cell.final_loss.values[there], cell.end_time.values[there]
    counts = Counter(str(result) for result in cell.result.values[there])
    held_out = {
        meaning: f"{np.median(cell[name].values[there]):.4g}"
        for name, meaning in _HELD_OUT.items()
        if name in cell and np.isfinite(cell[name].values[there]).any()
    }
    return {
        "parameters": int(np.median(cell.parameters.values[there])),
        "edges": int(np.median(cell.edges.values[there])),
        "final loss": f"{np.median(loss):.4g}",
        "range": f"{loss.min():.4g} .. {loss.max():.4g}",
        **held_out,
        "flow time": _span(time),
        "seconds": f"{cell.seconds.values[there].sum():.1f}",
        "result": ", ".join(f"{count} {result}" for result, count in counts.most_common()),
    }


def _span(values: np.ndarray) -> str:
    least, greatest = f"{values.min():.4g}", f"{values.max():.4g}"
    return least if least == greatest else f"{least} .. {greatest}"
