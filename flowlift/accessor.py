"""What a dataset of flows shows of itself in a few lines: `results.flowlift`.

The datasets are xarray's own, which shows every variable by name. This is its way to add to them:
an accessor, which changes neither the class nor any object. It is there once a dataset of this
library has been made.
"""

import itertools
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray

from .drawings import curves
from .showing import Card, shows_itself

# Curves that a small figure can hold.
_CURVES = 24
# Of flows, but for the further axes of a grid, which may have any name.
_DIMS = ("size", "seed", "time")


@xarray.register_dataset_accessor("flowlift")
@shows_itself
class Overview:
    """A dataset of flows in at most 15 lines, or as a table with its loss curves in a notebook.

    Losses are medians over seeds, with the least and the greatest; nothing is averaged over further
    axes. Of a dataset of anything else, and of one whose numbers are left on disk, the variables
    are named.
    """

    def __init__(self, data: xarray.Dataset):
        """Take a dataset, as xarray does for `data.flowlift`.

        Args:
            data: as given by `flowlift.store.load`, `flowlift.gather`, `flowlift.flow.dataset`.
        """
        self._data = data

    def _card_(self) -> Card:
        data = _with_end(self._data)
        of = _axes(data)
        if not {"loss", "final_loss", "end_time", "result"} <= set(data) or data.loss.chunks:
            title = _title(data) + ", on disk" * any(v.chunks is not None for v in data.values())
            return Card(title, [*_extent(data), *_variables(data)])
        end = np.isfinite(data.end_time)
        title = f"{_title(data)}: {int(end.sum())} of {end.size} runs" if of else _title(data)
        rows = [*_extent(data), *_said(data), *_runs(data, of)]
        return Card(title, rows, lambda: _drawn(data, of))


def _with_end(data: xarray.Dataset) -> xarray.Dataset:
    """The records of one flow, `flowlift.flow.dataset`, end with its last loss."""
    if "final_loss" in data or "loss" not in data or not data.sizes.get("time"):
        return data
    return data.assign(final_loss=data.loss.isel(time=-1))


def _axes(data: xarray.Dataset) -> list[str]:
    """The dimensions of cells: the further axes, then the size."""
    dims = data.final_loss.dims if "final_loss" in data else ()
    return [*(str(d) for d in dims if d not in _DIMS), *(d for d in ("size",) if d in dims)]


def _title(data: xarray.Dataset) -> str:
    if "study" in data.attrs:
        return f"results of {tomllib.loads(data.attrs['study']).get('name', 'a study')}"
    return str(data.attrs.get("title", "one flow" if "time" in data.dims else "dataset"))


def _extent(data: xarray.Dataset) -> Iterator[tuple[str, Any]]:
    for name, length in data.sizes.items():
        values = data[name].values if name in data.coords else None
        if values is None or name == "time":
            ends = "" if values is None or not length else f", {values[0]:g} to {values[-1]:g}"
            yield str(name), f"{length}{ends}"
        else:
            yield str(name), values.tolist()


def _variables(data: xarray.Dataset) -> Iterator[tuple[str, Any]]:
    for name, variable in data.data_vars.items():
        kept = variable.chunks is not None
        yield str(name), str(variable.dims) if kept else variable.values


def _said(data: xarray.Dataset) -> Iterator[tuple[str, Any]]:
    for sentence in str(data.attrs.get("remarks", "")).splitlines():
        yield "remark", sentence
    if (version := data.attrs.get("version_flowlift")) is not None:
        yield "computed by", f"flowlift {version}, {data.attrs.get('precision', '')}".rstrip(", ")


def _cells(data: xarray.Dataset, axes: list[str]) -> Iterator[tuple[str, xarray.Dataset]]:
    """Each lift size of each combination of further axes, named; of a single flow that one."""
    for values in itertools.product(*(data[axis].values.tolist() for axis in axes)):
        at = dict(zip(axes, values, strict=True))
        names = [f"{'n' if axis == 'size' else axis} = {value}" for axis, value in at.items()]
        yield ", ".join(names), data.sel(at)


def _runs(data: xarray.Dataset, axes: list[str]) -> Iterator[tuple[str, Any]]:
    for name, cell in _cells(data, axes):
        end = np.atleast_1d(cell.end_time.values)
        there = np.isfinite(end)
        if not there.any():
            yield name, "not run"
            continue
        loss = np.atleast_1d(cell.final_loss.values)[there]
        ended = Counter(np.atleast_1d(cell.result.values)[there].astype(str).tolist())
        how = ", ".join(f"{count} {result}" for result, count in ended.most_common())
        yield name or "end", f"L = {_span(loss)} at t = {_span(end[there])}; {how}"


def _span(values: np.ndarray) -> str:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return "nan"
    middle, low, high = (f"{v:.4g}" for v in (np.median(seen), seen.min(), seen.max()))
    return middle if low == high else f"{middle} ({low} to {high})"


def _drawn(data: xarray.Dataset, axes: list[str]) -> str:
    """Medians over seeds; a flow that has ended keeps its last loss, as in the figures."""
    rows = []
    for name, cell in itertools.islice(_cells(data, axes), _CURVES):
        loss = cell.loss.where(cell.loss.notnull() | (cell.time <= cell.end_time), cell.final_loss)
        loss = loss.median("seed") if "seed" in loss.dims else loss
        rows.append((name or "loss", loss.transpose(..., "time").values))
    clock = "t" if data.time.attrs.get("units", "1") != "1" else "log(1 + t)"
    return curves(data.time.values, rows, clock, "loss")
