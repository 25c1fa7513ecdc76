"""Results on disk: one self-describing NetCDF file per finished cell, written atomically.

A folder of results holds

    study.toml          the resolved study that was run last
    cells/<hash>.nc     finished cells, named by a hash of the identities of their runs
    index/*.jsonl       what the cells hold, one file per writer: a cache, safe to delete
    set_aside/          files in cells/ that could not be read, moved there and named

The listing of cells/ is the truth about what has been run.
"""

import functools
import json
import os
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from .grid import Cell, all_sizes, axis_names, cells
from .study import Study
from .study_file import axis_values, read_study, to_toml

CELLS, INDEX, SET_ASIDE, STUDY = "cells", "index", "set_aside", "study.toml"


def write_study(study: Study, directory: Path) -> None:
    """Write the resolved study beside its results."""
    _write_whole(directory / STUDY, lambda temporary: Path(temporary).write_text(to_toml(study)))


def write_cell(data: xarray.Dataset, cell: Cell, directory: Path) -> None:
    """Write a finished cell so that its file holds all of it or does not exist, and index it.

    Args:
        data: the cell's results.
        cell: the cell.
        directory: the folder of results.
    """
    path = directory / CELLS / f"{cell.name}.nc"
    _write_whole(path, lambda temporary: data.to_netcdf(temporary, engine="h5netcdf"))
    _append_index(directory, path.name, _runs_in(data))


def finished(directory: Path) -> dict[str, Path]:
    """Which runs are there: identity to file.

    Files that no index knows are opened and indexed; a file that is no cell is set aside with a
    warning.

    Args:
        directory: the folder of results.

    Returns:
        The file of every finished run.
    """
    known = _read_index(directory)
    runs: dict[str, Path] = {}
    for path in sorted((directory / CELLS).glob("*.nc")):
        if path.name not in known:
            found = _runs_of(path)
            if found is None:
                _set_aside(path)
                continue
            _append_index(directory, path.name, found)
            known[path.name] = found
        runs |= dict.fromkeys(known[path.name], path)
    return runs


def load(directory: str | Path, study: Study | None = None) -> xarray.Dataset:
    """A study's finished runs, as one dataset.

    Args:
        directory: the folder that `run_study` wrote.
        study: whose runs to take; None for the study last run there.

    Returns:
        Dimensions `size`, `seed` and `time`, and the study's further axes. Where a combination is
        not there, numbers are NaN and words are empty.

    Raises:
        FileNotFoundError: if the folder holds no results of the study.
    """
    directory = Path(directory)
    if study is None and (directory / STUDY).is_file():
        study = read_study(directory / STUDY)
    runs = finished(directory)
    there = [] if study is None else [c for c in cells(study) if any(r in runs for r in c.runs)]
    if not there or study is None:
        raise FileNotFoundError(
            f"Argument `results` must be a folder written by `flowlift run`, but "
            f"{str(directory)!r} holds no finished cell of its study; run the study first."
        )
    return _assemble(there, runs, study)


def _assemble(there: list[Cell], runs: dict[str, Path], study: Study) -> xarray.Dataset:
    """Seeds beside one another, then sizes, then the further axes, each in the study's order."""
    rows: dict[tuple, list[xarray.Dataset]] = {}
    for cell in there:
        wanted = {run for run in cell.runs if run in runs}
        for path in sorted({runs[run] for run in wanted}):
            rows.setdefault((cell.variant, cell.size), []).append(_wanted_part(path, wanted))
    sizes: dict[tuple, list[xarray.Dataset]] = {}
    for (variant, _), parts in rows.items():
        sizes.setdefault(variant, []).append(_concat(parts, "seed"))
    blocks = [_with_axes(_concat(parts, "size"), v, study) for v, parts in sizes.items()]
    data = xarray.merge(blocks, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    values = axis_values(study)
    order = {axis: values[key] for key, axis in axis_names(study).items()}
    order["size"] = all_sizes(study)
    data = data.reindex({axis: [v for v in o if v in data[axis]] for axis, o in order.items()})
    data = data.map(_without_missing_words, keep_attrs=True)
    return data.assign_attrs(study=to_toml(study))


def _wanted_part(path: Path, wanted: set[str]) -> xarray.Dataset:
    data = xarray.load_dataset(path, engine="h5netcdf")
    return data.sel(seed=[run in wanted for run in _runs_in(data)])


def _with_axes(data: xarray.Dataset, variant: tuple, study: Study) -> xarray.Dataset:
    names = axis_names(study)
    return data.expand_dims({names[key]: [value] for key, value in variant})


def _concat(parts: list[xarray.Dataset], axis: str) -> xarray.Dataset:
    join: Any = functools.partial(xarray.concat, combine_attrs="drop_conflicts", join="outer")
    return join(parts, axis).sortby(axis)


def _without_missing_words(variable: xarray.DataArray) -> xarray.DataArray:
    return variable.fillna("").astype(str) if variable.dtype == object else variable


def _write_whole(path: Path, write: Callable[[str], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_index(directory: Path) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for file in sorted((directory / INDEX).glob("*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a writer that was killed; the cell itself will be read.
                continue
            known[entry["file"]] = entry["runs"]
    return known


def _append_index(directory: Path, file: str, runs: list[str]) -> None:
    folder = directory / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    writer = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    with writer.open("a") as index:
        index.write(json.dumps({"file": file, "runs": runs}) + "\n")


def _runs_of(path: Path) -> list[str] | None:
    """The identities of the runs in a cell's file, None if it is none."""
    try:
        with xarray.open_dataset(path, engine="h5netcdf") as data:
            return _runs_in(data)
    except Exception:
        return None


def _runs_in(data: xarray.Dataset) -> list[str]:
    return [str(run) for run in np.ravel(data["run"].values)]


def _set_aside(path: Path) -> None:
    place = path.parent.parent / SET_ASIDE / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, place)
    warnings.warn(f"{path} is no readable cell and was moved to {place}.", stacklevel=2)
