"""Blocks of runs put in their places: one labelled dataset, each variable written once."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
import xarray

from ..studies.grid import Cell, all_sizes, axis_names
from ..studies.records import Study
from ..studies.toml import axis_values, to_toml
from .blocks import Block


@dataclasses.dataclass(frozen=True, eq=False)
class Placed:
    """Rows of a block, and where they stand in the dataset.

    Attributes:
        block: the block.
        rows: numbers of its rows.
        at: for each, its place among all places of runs, counted with the last axis fastest.
        key: what the block's values are read by, where they are read later.
    """

    block: Block
    rows: np.ndarray
    at: np.ndarray
    key: Any = None


# A variable's values, from its dimensions, its shape, its type, what stands where nothing is, and
# for each part the rows, their places and the places along further dimensions.
Fill = Callable[[str, "Shape", Sequence[tuple[Placed, tuple]]], Any]


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a variable of the dataset looks like.

    Attributes:
        runs: lengths of the axes of runs.
        rest: lengths of its further dimensions.
        dtype: the type of its values.
        missing: what stands where no run gives a value; None if all do.
    """

    runs: tuple[int, ...]
    rest: tuple[int, ...]
    dtype: np.dtype
    missing: Any


def assemble(
    blocks: Iterable[tuple[Any, Block]],
    counts: Mapping[str, Any],
    study: Study,
    wanted: Iterable[Cell],
    fill: Fill | None = None,
) -> xarray.Dataset:
    """The runs of a study as one dataset, each axis in the study's order.

    Args:
        blocks: a key for each, and the block.
        counts: for each run that is there the key of the block that counts for it.
        study: the study.
        wanted: those of its cells whose runs are taken.
        fill: makes a variable's values; None: arrays in memory.

    Returns:
        Dimensions: further axes, `size`, `seed`, then those of the variables. Where no run gives a
        value numbers are NaN, and words, whatever else has no NaN, empty text.
    """
    axes, runs, places = _places(study, wanted, counts)
    shape = tuple(len(values) for values in axes.values())
    parts = _placed(blocks, counts, runs, places)
    labels, lengths = _labels(parts)
    names = list(dict.fromkeys(name for part in parts for name in part.block.columns))
    covered = len(set(places.tolist())) == int(np.prod(shape))
    variables = {}
    for name in names:
        having = [part for part in parts if name in part.block.columns]
        whole = covered and len(having) == len(parts)
        variables[name] = _variable(
            name, having, tuple(axes), shape, labels, lengths, whole, fill or _in_memory
        )
    coords: dict[str, Any] = dict(axes)
    for axis in ("size", "seed"):
        noted = _kept_attrs([part.block.axes[axis].attrs for part in parts])
        coords[axis] = ((axis,), axes[axis], noted)
    for name, index in labels.items():
        noted = [p.block.coords[name].attrs for p in parts if name in p.block.coords]
        coords[name] = ((name,), _plain(index), _kept_attrs(noted))
    data = xarray.Dataset(variables, coords)
    data = data.set_coords({name for part in parts for name in part.block.beside})
    origins = [p.block.origins[i] for p in parts for i in np.unique(p.block.origin[p.rows])]
    return data.assign_attrs(_kept_attrs(origins) | {"study": to_toml(study)})


def _places(
    study: Study, wanted: Iterable[Cell], there: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], np.ndarray]:
    """The axes with the values that occur, the runs that are there, and the place of each."""
    # Variants that differ in what no number depends on share their runs: one stands at each place.
    names = axis_names(study)
    order: dict[str, list] = {axis: list(axis_values(study)[key]) for key, axis in names.items()}
    order["size"] = list(all_sizes(study))
    found: list[tuple[tuple, list[int], list[str]]] = []
    for cell in wanted:
        pairs = [(s, r) for s, r in zip(cell.seeds, cell.runs, strict=True) if r in there]
        if pairs:
            values = {names[key]: value for key, value in cell.variant}
            outer = tuple(order[axis].index(values[axis]) for axis in names.values())
            seeds, runs = map(list, zip(*pairs, strict=True))
            found.append(((*outer, order["size"].index(cell.size)), seeds, runs))
    used = [sorted({place[i] for place, _, _ in found}) for i in range(len(order))]
    seeds = np.unique(np.concatenate([seeds for _, seeds, _ in found]))
    axes: dict[str, Any] = {
        axis: [values[i] for i in kept]
        for (axis, values), kept in zip(order.items(), used, strict=True)
    }
    shape = (*map(len, used), len(seeds))
    places = []
    for place, of_seeds, _ in found:
        outer = [kept.index(i) for kept, i in zip(used, place, strict=True)]
        inner = np.searchsorted(seeds, of_seeds)
        start = np.ravel_multi_index((*outer, 0), shape)
        places.append(start + inner)
    runs = [run for _, _, names_ in found for run in names_]
    return axes | {"seed": seeds}, runs, np.concatenate(places)


def _placed(
    blocks: Iterable[tuple[Any, Block]],
    counts: Mapping[str, Any],
    runs: Sequence[str],
    places: np.ndarray,
) -> list[Placed]:
    at: dict[str, list[int]] = {}
    for run, place in zip(runs, places.tolist(), strict=True):
        at.setdefault(run, []).append(place)
    parts = []
    for key, block in blocks:
        pairs = [
            (row, place)
            for row, run in enumerate(block.runs)
            if counts.get(run) == key
            for place in at.get(run, ())
        ]
        if pairs:
            taken, where = np.array(pairs).T
            parts.append(Placed(block, taken, where, key))
    return parts


def _labels(parts: Sequence[Placed]) -> tuple[dict[str, pandas.Index], dict[str, int]]:
    """Labels along further dimensions, all that occur; lengths of those that need none."""
    lengths: dict[str, set[int]] = {}
    labels: dict[str, list[pandas.Index]] = {}
    for part in parts:
        for variable in part.block.columns.values():
            for dim, length in zip(variable.dims[1:], variable.shape[1:], strict=True):
                lengths.setdefault(str(dim), set()).add(length)
        for name, variable in part.block.coords.items():
            known = labels.setdefault(name, [])
            index = variable.to_index()
            if not any(index.equals(other) for other in known):
                known.append(index)
            lengths.setdefault(name, set()).add(len(index))
    joined = {name: _union(indexes) for name, indexes in labels.items()}
    for dim, found in lengths.items():
        bare = any(dim in v.dims and dim not in p.block.coords for p in parts for v in _of(p))
        # Where lengths differ, places are numbered, as `numbered` does.
        if bare and (len(found) > 1 or dim in joined):
            numbers = pandas.RangeIndex(max(found))
            joined[dim] = _union([joined[dim], numbers]) if dim in joined else numbers
    return joined, {dim: max(found) for dim, found in lengths.items()}


def _of(part: Placed) -> Iterable[xarray.Variable]:
    return part.block.columns.values()


def _union(indexes: Sequence[pandas.Index]) -> pandas.Index:
    first, *others = indexes
    for other in others:
        first = first.union(other)
    return first


def _variable(name, having, axes, runs, labels, lengths, whole, fill: Fill) -> tuple:
    """Dimensions, values and attributes of a variable."""
    columns = [part.block.columns[name] for part in having]
    dims = tuple(dict.fromkeys(dim for column in columns for dim in column.dims[1:]))
    rest = tuple(len(labels[d]) if d in labels else lengths[d] for d in dims)
    parts = []
    for part, column in zip(having, columns, strict=True):
        where = tuple(_along(str(dim), column, part.block, labels) for dim in dims)
        whole = whole and all(w is None for w in where)
        parts.append((part, where))
    dtype = np.result_type(*(column.dtype for column in columns))
    dtype, missing = (dtype, None) if whole else _with_missing(dtype)
    if len({column.dims for column in columns}) > 1:
        parts = [(_widened(part, name, dims), where) for part, where in parts]
    noted = _kept_attrs([column.attrs for column in columns])
    return (*axes, *dims), fill(name, Shape(runs, rest, dtype, missing), parts), noted


def _widened(part: Placed, name: str, dims: tuple) -> Placed:
    """A column that lacks a dimension of others is the same along it."""
    column = part.block.columns[name]
    sizes = {column.dims[0]: len(column)} | {d: column.sizes.get(d, 1) for d in dims}
    columns = {**part.block.columns, name: column.set_dims(sizes).transpose(*sizes)}
    return dataclasses.replace(part, block=dataclasses.replace(part.block, columns=columns))


def _along(dim: str, column: xarray.Variable, block: Block, labels) -> np.ndarray | None:
    """Where values along a dimension go; None for all of it."""
    if dim not in labels:
        return None
    index = labels[dim]
    if dim not in column.dims:
        return np.arange(len(index))
    if dim in block.coords:
        own = block.coords[dim].to_index()
        return None if own.equals(index) else index.get_indexer(own)
    own = pandas.RangeIndex(column.sizes[dim])
    return None if own.equals(index) else index.get_indexer(own)


def _with_missing(dtype: np.dtype) -> tuple[np.dtype, Any]:
    """A type that has a value for what is not there."""
    if dtype.kind in "fc":
        return dtype, np.nan
    if dtype.kind in "iub":
        # Whole numbers of two bytes are exact in single precision.
        return np.dtype("float32" if dtype.itemsize == 2 else "float64"), np.nan
    if dtype.kind in "mM":
        return dtype, np.array("NaT", dtype)
    return dtype, ""


def _in_memory(name: str, shape: Shape, parts: Sequence[tuple[Placed, tuple]]) -> np.ndarray:
    flat = (int(np.prod(shape.runs)), *shape.rest)
    values = np.empty(flat, shape.dtype)
    if shape.missing is not None:
        values[...] = shape.missing
    for part, where in parts:
        found = part.block.columns[name].values[part.rows].astype(shape.dtype, copy=False)
        put(values, part.at, where, found)
    return values.reshape(*shape.runs, *shape.rest)


def put(values: np.ndarray, at: np.ndarray, where: tuple, found: np.ndarray) -> None:
    """Write rows into an array of all places.

    Args:
        values: the array; its first dimension counts places of runs.
        at: the places.
        where: the places along each further dimension, None for all of it.
        found: the rows.
    """
    if all(w is None for w in where):
        values[at] = found
        return
    lengths = values.shape[1:]
    grid = [np.arange(n) if w is None else w for w, n in zip(where, lengths, strict=True)]
    values[np.ix_(at, *grid)] = found


def _kept_attrs(given: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """What does not differ; what some lack is kept."""
    kept: dict[Any, Any] = {}
    dropped: set[Any] = set()
    for attrs in given:
        for name, value in attrs.items():
            if name not in dropped and not _same(kept.setdefault(name, value), value):
                del kept[name]
                dropped.add(name)
    return kept


def _same(a: Any, b: Any) -> bool:
    if type(a) is str or type(b) is str:
        return type(a) is type(b) and a == b
    return bool(np.array_equal(a, b, equal_nan=True))


def _plain(index: pandas.Index) -> np.ndarray:
    """Labels as NumPy has them, words too."""
    values = index.to_numpy()
    return values if values.dtype.kind in "biufcmM" else np.array(index.tolist())
