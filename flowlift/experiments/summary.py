"""Tables of results."""

from collections import Counter

import numpy as np
import pandas
import xarray


def summary(results: xarray.Dataset) -> pandas.DataFrame:
    """One row per lift size: what was trained, how far, how long and how it ended.

    Args:
        results: as given by `load`, dimensions `size` and `seed`.

    Returns:
        A table indexed by lift size: median numbers of parameters and edges, the final loss as
        median and range over seeds, the least and the greatest flow time reached, the seconds of
        all seeds, and how many flows ended how.
    """
    rows = [_row(results.sel(size=n)) for n in results["size"].values]
    index = pandas.Index(results["size"].values, name="lift size")
    return pandas.DataFrame(rows, index=index)


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
