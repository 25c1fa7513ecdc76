"""Results on disk: one self-describing NetCDF file per cell, written atomically.

A folder of results holds ::

    study.toml          the resolved study that was run last, and plan.json: its runs
    cells/<hash>.nc     runs of one cell, named by a hash of the identities it was made for; it
                        grows by being replaced whole
    index/*.jsonl       what the cells hold, one file per writer: a cache, safe to delete
    claims/*.json       who computes what right now
    running/<run>.npz   where long runs stand
    set_aside/          files that could not be read, moved there and named

The listing of cells/ is the truth about what has been run. The schema is in docs/store.md.
"""

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray
from xarray.backends import H5NetCDFStore

from ..files import write_text, write_whole
from ..flow import Outcome
from ..studies.grid import SCHEMA, Cell, all_sizes, axis_names, cells, rows
from ..studies.records import Study
from ..studies.toml import axis_values, read_study, to_toml
from .index import Entry, append, latest, read_index, unread
from .names import CELLS, SET_ASIDE, STUDY
from .plan import write_plan


class StoreError(OSError):
    """Raised when results cannot be written; what had been stored is untouched."""


@contextlib.contextmanager
def storing(directory: Path) -> Iterator[None]:
    """Say what a failure to write means.

    Args:
        directory: the folder of results.

    Yields:
        Nothing.

    Raises:
        StoreError: instead of the system's own error.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The folder of results {str(directory)!r} could not be written ({error}); free some "
            "space and run the same command again: what it holds is whole, and is not repeated."
        ) from error


def write_study(study: Study, directory: Path) -> None:
    """Write the resolved study and its plan beside its results.

    Args:
        study: the study.
        directory: the folder of results.

    Raises:
        StoreError: if they cannot be written.
    """
    with storing(directory):
        write_text(directory / STUDY, to_toml(study))
        write_plan(directory, study.name, rows(study))


def write_cell(data: xarray.Dataset, cell: Cell, directory: Path) -> None:
    """Write runs of a cell so that its file holds all of them or is what it was, and index it.

    Args:
        data: the results so far.
        cell: the cell.
        directory: the folder of results.

    Raises:
        StoreError: if the file cannot be written, e.g. because the disk is full.
    """
    path = path_of(cell, directory)
    content = _as_bytes(data)
    with storing(directory):
        write_whole(path, lambda temporary: Path(temporary).write_bytes(content))
        append(directory, _entry(data, path))


def _as_bytes(data: xarray.Dataset) -> bytes:
    """The NetCDF file, made in memory: HDF5 does not survive a full disk (it may crash)."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file, h5netcdf.File(file, "w") as netcdf:
        data.dump_to_store(H5NetCDFStore(netcdf))
    return buffer.getvalue()


def path_of(cell: Cell, directory: Path) -> Path:
    """Where the runs of a cell are kept."""
    return directory / CELLS / f"{cell.name}.nc"


def read_cell(cell: Cell, directory: Path) -> xarray.Dataset | None:
    """What the file of a cell holds so far.

    Args:
        cell: the cell.
        directory: the folder of results.

    Returns:
        Its results, None if there is no such file.
    """
    path = path_of(cell, directory)
    return _opened(path).load() if path.exists() else None


def index(directory: Path) -> dict[str, Entry]:
    """What each file holds, the index brought up to date.

    Files that no index knows are opened and indexed; a file that is no cell is set aside with a
    warning.

    Args:
        directory: the folder of results.

    Returns:
        Entries by file name.
    """
    known = read_index(directory)
    for path in unread(directory, known):
        entry = _read_entry(path)
        if entry is None:
            set_aside(path, "no readable cell")
            continue
        append(directory, entry)
        known[path.name] = entry
    return known


def reread(directory: Path) -> None:
    """Bring index and plan up to date with the files, as `flowlift status` needs them.

    Args:
        directory: the folder of results.
    """
    index(directory)
    if (directory / STUDY).is_file():
        study = read_study(directory / STUDY)
        write_plan(directory, study.name, rows(study))


def finished(directory: Path, *, failures: bool = True) -> dict[str, Path]:
    """Which runs are there: identity to file.

    Args:
        directory: the folder of results.
        failures: whether runs that failed are among them.

    Returns:
        The file of every finished run; where several hold it, the one that counts.
    """
    found = latest(index(directory).values())
    return {
        run: directory / CELLS / entry.file
        for run, (entry, _) in found.items()
        if failures or run not in entry.reasons
    }


def load(
    directory: str | Path, study: Study | None = None, *, lazy: bool = False
) -> xarray.Dataset:
    """A study's finished runs, as one dataset.

    Args:
        directory: the folder that `run_study` wrote.
        study: whose runs to take; None for the study last run there.
        lazy: leave the arrays on disk until they are computed with, one Dask chunk per cell
            (needs the extra `dask`); for stores that exceed the memory.

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
    return _assemble(there, runs, study, {"chunks": {}} if lazy else {})


def _assemble(
    there: list[Cell], runs: dict[str, Path], study: Study, options: dict[str, Any]
) -> xarray.Dataset:
    """Seeds beside one another, then sizes, then the further axes, each in the study's order."""
    shapes: dict[tuple, list[xarray.Dataset]] = {}
    for cell in there:
        files: dict[Path, set[str]] = {}
        for run in (run for run in cell.runs if run in runs):
            files.setdefault(runs[run], set()).add(run)
        for path, wanted in sorted(files.items()):
            part = _wanted_part(path, wanted, options)
            shapes.setdefault((cell.variant, cell.size), []).append(part)
    sizes: dict[tuple, list[xarray.Dataset]] = {}
    for (variant, _), parts in shapes.items():
        sizes.setdefault(variant, []).append(_concat(parts, "seed"))
    blocks = [_with_axes(_concat(parts, "size"), v, study) for v, parts in sizes.items()]
    data = xarray.merge(blocks, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    values = axis_values(study)
    order: dict[str, Sequence[Any]] = {axis: values[key] for key, axis in axis_names(study).items()}
    order["size"] = all_sizes(study)
    data = data.reindex({axis: [v for v in o if v in data[axis]] for axis, o in order.items()})
    data = data.map(_without_missing_words, keep_attrs=True)
    return data.assign_attrs(study=to_toml(study))


def _wanted_part(path: Path, wanted: set[str], options: dict[str, Any]) -> xarray.Dataset:
    data = _opened(path, **options)
    data = data if options else data.load()
    return data.sel(seed=[run in wanted for run in _runs_in(data)])


def _with_axes(data: xarray.Dataset, variant: tuple, study: Study) -> xarray.Dataset:
    names = axis_names(study)
    return data.expand_dims({names[key]: [value] for key, value in variant})


def _concat(parts: list[xarray.Dataset], axis: str) -> xarray.Dataset:
    join: Any = functools.partial(
        xarray.concat, combine_attrs="drop_conflicts", join="outer", data_vars="all"
    )
    return join(parts, axis).sortby(axis)


def _without_missing_words(variable: xarray.DataArray) -> xarray.DataArray:
    return variable.fillna("").astype(str) if variable.dtype == object else variable


def counts_as_failed(code: str) -> bool:
    """Whether a result code is a failure: those of the solver, of the run, and the step limit."""
    outcome = Outcome(code)
    return outcome.failed or outcome is Outcome.STEP_LIMIT


def _entry(data: xarray.Dataset, path: Path) -> Entry:
    runs, codes = _texts(data, "run"), _texts(data, "result")
    reasons = zip(runs, codes, _texts(data, "reason"), strict=True)
    return Entry(
        file=path.name,
        runs=runs,
        size=int(data["size"].values[0]),
        seeds=tuple(int(seed) for seed in data["seed"].values),
        results=codes,
        seconds=tuple(float(s) for s in np.ravel(data["seconds"].values)),
        reasons={run: reason for run, code, reason in reasons if counts_as_failed(code)},
        ended=_texts(data, "ended"),
        bytes=path.stat().st_size,
        whole=_numbers(data, "run_seconds"),
        compiling=_numbers(data, "compile_seconds"),
    )


def _numbers(data: xarray.Dataset, name: str) -> tuple[float, ...]:
    """A number of each run; none where the file is older than the number."""
    found = np.ravel(data[name].values) if name in data else np.zeros(0)
    return tuple(float(x) for x in found) if np.isfinite(found).all() else ()


def _texts(data: xarray.Dataset, name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in np.ravel(data[name].values))


def _read_entry(path: Path) -> Entry | None:
    """What a file holds, None if it is no cell."""
    try:
        with _opened(path) as data:
            return _entry(data, path)
    except NewerSchema:
        raise
    except Exception:
        return None


class NewerSchema(ValueError):
    """Raised for a file that a newer version wrote."""


def _opened(path: Path, **options: Any) -> xarray.Dataset:
    """A cell's file, in the present schema whichever it was written in."""
    data = xarray.open_dataset(path, engine="h5netcdf", **options)
    if (schema := int(data.attrs["schema"])) > SCHEMA:
        raise NewerSchema(
            f"Argument `results` must hold files of schema {SCHEMA} at most, but {str(path)!r} has "
            f"schema {schema}; read it with a newer version of flowlift."
        )
    return data if schema == SCHEMA else _upgraded(data)


def _upgraded(data: xarray.Dataset) -> xarray.Dataset:
    """A file of schema 1: it says neither why runs failed nor when and where they ended."""
    codes = data["result"].values.astype(str)
    why = [Outcome(code).sentence if counts_as_failed(code) else "" for code in np.ravel(codes)]
    texts = {"reason": np.reshape(why, codes.shape), "ended": "", "host": ""}
    new = {
        name: (data["result"].dims, np.broadcast_to(text, codes.shape), dict(BESIDE[name]))
        for name, text in texts.items()
    }
    return data.assign(new)


# Texts that are kept beside a run's numbers.
BESIDE = {
    "reason": {"long_name": "why the run failed, empty if it did not", "units": "1"},
    "ended": {"long_name": "when the run ended, UTC, ISO 8601", "units": "1"},
    "host": {"long_name": "machine that computed the run", "units": "1"},
}


def _runs_in(data: xarray.Dataset) -> list[str]:
    return list(_texts(data, "run"))


def set_aside(path: Path, what: str) -> None:
    """Move a file out of the way, and say so.

    Args:
        path: the file, one folder below the store.
        what: what it is not, or is.
    """
    place = path.parent.parent / SET_ASIDE / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(path, place)
    except FileNotFoundError:
        # Another master was first.
        return
    warnings.warn(f"{path} is {what} and was moved to {place}.", stacklevel=2)
