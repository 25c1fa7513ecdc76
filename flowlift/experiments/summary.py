"""Tables of results."""

import itertools
from collections import Counter

import numpy as np
import pandas
import xarray


def further_axes(results: xarray.Dataset) -> list[str]:
    """The dimensions of a study's grid besides size and seed."""
    return [str(axis) for axis in results.final_loss.dims if axis not in ("size", "seed")]


def summary(results: xarray.Dataset) -> pandas.DataFrame:
    """One row per lift size: what was trained, how far, how long and how it ended.

    Args:
        results: as given by `load`.

    Returns:
        A table indexed by the study's further axes, if any, and the lift size: median numbers of
        parameters and edges, the final loss as median and range over seeds, the least and the
        greatest flow time reached, the seconds of all seeds, and how many flows ended how.
    """
    axes = [*further_axes(results), "size"]
    rows, index = [], []
    for values in itertools.product(*(results[axis].values for axis in axes)):
        cell = results.sel(dict(zip(axes, values, strict=True)))
        if np.isfinite(cell.end_time).any():
            rows.append(_row(cell))
            index.append(values)
    return pandas.DataFrame(rows, index=_index(axes, index))


def _index(axes: list[str], rows: list[tuple]) -> pandas.Index:
    if len(axes) == 1:
        return pandas.Index([size for (size,) in rows], name="lift size")
    return pandas.MultiIndex.from_tuples(rows, names=[*axes[:-1], "lift size"])


def as_text(table: pandas.DataFrame) -> str:
    """The table for a terminal."""
    return table.reset_index().to_string(index=False)


def _row(cell: xarray.Dataset) -> dict[str, object]:
    there = np.isfinite(cell.end_time.values)
    loss, time = cell.final_loss.values[there], cell.end_time.values[there]
    counts = Counter(str(result) for result in cell.result.values[there])
    return {
        "parameters": int(np.median(cell.parameters.values[there])),
        "edges": int(np.median(cell.edges.values[there])),
        "final loss": f"{np.median(loss):.4g}",
        "range": f"{loss.min():.4g} .. {loss.max():.4g}",
        "flow time": _span(time),
        "seconds": f"{cell.seconds.values[there].sum():.1f}",
        "result": ", ".join(f"{count} {result}" for result, count in counts.most_common()),
    }


def _span(values: np.ndarray) -> str:
    least, greatest = f"{values.min():.4g}", f"{values.max():.4g}"
    return least if least == greatest else f"{least} .. {greatest}"
