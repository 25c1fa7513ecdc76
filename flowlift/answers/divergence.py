"""Which flows look as if they went off to infinity, of many runs: see `flowlift.flow.infinity`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import xarray

from ..flow.frame import in_log_time
from ..flow.infinity import diverging, fits, largest_exponent
from ..flow.units import LOG_TIME
from .summary import by_variant

# Runs whose records are fitted together: some 10 MB for 100 records each.
_TOGETHER = 10_000


def divergence(results: xarray.Dataset, among: xarray.DataArray | None = None) -> xarray.Dataset:
    """Which flows look as if they went off to infinity, with the evidence.

    Let r(t) = |theta(t) - theta(0)|, and p the exponent of growth, r^H = a + b (t^p - 1) / p: log t
    for p = 0, a power for p > 0, and a limit that is approached for p < 0. p is fitted between each
    two neighbouring half decades among the last three decades of t. A flow looks divergent if r
    grew in the last decade, and for some degree H of 1, 2, 3, 4 all these p lie between about 0 and
    1/2. It is a fit and no certificate: a flow that stops at a great distance looks the same before
    it gets there, and none counts as converged for it. The bound of 1/2 is the plain flow's; where
    times are log(1 + t), as those of a log-loss flow, growth up to that of time itself is log t;
    and where L has fallen below 0, so that no bound of it is known, growth may be that of time.

    Args:
        results: as given by `load` or `flowlift.gather`.
        among: the runs that are asked for, booleans; None for all.

    Returns:
        Over the runs: `diverging`; `exponent`, the last p; `low` and `high`, the least and the
        greatest p; `degree`, the H of least spread of p; `decades` that were used, 0 where nothing
        is known; and `why` nothing is: "no record of the distance", "too few decades", "too few
        records", or "not asked". Where an axis of the results bears one of these names, the field
        has `_of_growth` behind its own.
    """
    dims, shape = results.final_loss.dims, results.final_loss.shape
    count = int(np.prod(shape))
    numbers = np.full((5, count), np.nan)
    numbers[-1] = 0
    done = np.isfinite(results.end_time.transpose(*dims).values.ravel())
    whys = np.full(count, "", dtype="<U26")
    if among is not None:
        asked = among.transpose(*dims).values.ravel()
        whys[done & ~asked], done = "not asked", done & asked
    known = "distance" in results and "time" in results["distance"].dims
    if not known:
        whys[done], done = "no record of the distance", np.zeros(count, bool)
    runs = np.flatnonzero(done)
    losses = results.final_loss.values.ravel()
    most = largest_exponent(losses, _log_time(results))
    rows = results["distance"].transpose(*dims, "time").values.reshape(count, -1) if known else None
    for first in range(0, len(runs), _TOGETHER):
        part = runs[first : first + _TOGETHER]
        assert rows is not None
        numbers[:, part], whys[part] = fits(results.time.values, rows[part], most[part])
    off = diverging(numbers, most)
    names = ("exponent", "low", "high", "degree", "decades")
    fields = {n: (dims, v.reshape(shape)) for n, v in zip(names, numbers, strict=True)}
    fields |= {"diverging": (dims, off.reshape(shape)), "why": (dims, whys.reshape(shape))}
    # An axis may have the name of a field, such as the degree of an edge law; so may the value of a
    # part along it, which is no coordinate of what is found.
    named = {f"{n}_of_growth" if n in dims else n: field for n, field in fields.items()}
    return xarray.Dataset(named, {name: results[name].reset_coords(drop=True) for name in dims})


def _log_time(results: xarray.Dataset) -> bool:
    """As times say it: the records by which a log-loss flow is known need not have been read."""
    said = "time" in results and results.time.attrs.get("long_name") == LOG_TIME["long_name"]
    return said or in_log_time(results)


def evidence(results: xarray.Dataset) -> pandas.DataFrame:
    """What `divergence` rests on, a row for each variant and size with flows that look divergent.

    Args:
        results: as given by `load` or `flowlift.gather`.

    Returns:
        The axes, `size`, `runs`, the median of the last exponents, the least and the greatest of
        all, the degrees, and the fewest decades of a fit; without rows where no flow does.
    """
    return pandas.DataFrame(_rows(results))


def _rows(results: xarray.Dataset) -> Iterator[dict[str, Any]]:
    for variant, part in by_variant(results):
        found = divergence(part)
        for size in part["size"].values:
            one = found.sel(size=size)
            off = {name: one[name].values[one.diverging.values] for name in one.data_vars}
            if off["exponent"].size:
                yield {**variant, "size": size, "runs": off["exponent"].size} | {
                    "exponent, median": float(np.median(off["exponent"])),
                    "least": float(off["low"].min()),
                    "greatest": float(off["high"].max()),
                    "degrees": ", ".join(f"{d:.0f}" for d in np.unique(off["degree"])),
                    "decades": float(off["decades"].min()),
                }
