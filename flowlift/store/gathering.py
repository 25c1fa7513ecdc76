"""The cells of a study as one labelled dataset, with what has to be said of it."""

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from ..doing import doing
from ..studies.grid import Cell, all_sizes, axis_names, cells
from ..studies.records import Study
from ..studies.toml import axis_values, recorded_study, to_toml
from .cells import check_runs, in_present_schema, index, places, read_file
from .damage import Damage, damages, remark, set_aside
from .digests import Damaged
from .index import Entry
from .joining import numbered
from .names import STUDY

_REMARKS = "remarks"


class NothingStored(FileNotFoundError):
    """Raised for a folder that holds no finished run of the study."""


def load(
    directory: str | Path, study: Study | None = None, *, lazy: bool = False
) -> xarray.Dataset:
    """A study's finished runs, as one dataset.

    Every file is checked against its digest. One that is damaged is set aside, and the results
    say so: see `remarks`.

    Args:
        directory: the folder that `run_study` wrote.
        study: whose runs to take; None for the study last run there.
        lazy: leave the arrays on disk until they are computed with, one Dask chunk per cell
            (needs the extra `dask`); for stores that exceed the memory.

    Returns:
        Dimensions `size`, `seed` and `time`, and the study's further axes. Where a combination is
        not there, numbers are NaN and words are empty.

    Raises:
        NothingStored: if the folder holds no results of the study; a `FileNotFoundError`.
        NotRead: if the system refuses to read a file; nothing follows for its content then.
    """
    directory = Path(directory)
    if study is None and (directory / STUDY).is_file():
        study = recorded_study(directory / STUDY)
    wanted = [] if study is None else list(cells(study))
    found: list[Damage] = []
    runs, parts = _read(directory, wanted, found, lazy=lazy)
    missing = {run for cell in wanted for run in cell.runs} - set(runs)
    said = remark([*damages(directory), *found], missing)
    if not parts or study is None:
        raise NothingStored(
            f"Argument `results` must be a folder written by `flowlift run`, but "
            f"{str(directory)!r} holds no finished cell of its study; run the study first."
            + f" {said}"
            * bool(said)
        )
    data = _assemble(wanted, runs, parts, study)
    said = [said, _mixture(data)]
    return data.assign_attrs({_REMARKS: "\n".join(s for s in said if s)} if any(said) else {})


def load_cells(directory: Path, study: Study, wanted: Sequence[Cell]) -> xarray.Dataset:
    """As `load`, of some cells alone: their files are read and no others.

    Args:
        directory: the folder of results.
        study: the study.
        wanted: its cells; one run of them at least must be stored.

    Returns:
        As `load`, without remarks; a warning names files that are damaged.
    """
    return _assemble(wanted, *_read(directory, wanted, [], lazy=False), study)


def remarks(results: xarray.Dataset) -> list[str]:
    """What an answer from results must say: damage in the store, versions that differ.

    Args:
        results: as given by `load`.

    Returns:
        Sentences; none if all is well.
    """
    return str(results.attrs.get(_REMARKS, "")).splitlines()


def _read(
    directory: Path, wanted: Iterable[Cell], found: list[Damage], *, lazy: bool
) -> tuple[dict[str, Path], dict[Path, xarray.Dataset]]:
    """The file of each wanted run, and the content of each file; damage is added to `found`."""
    # A run of a damaged file may stand in another one: then that one counts.
    known, parts = index(directory, found), {}
    needed = {run for cell in wanted for run in cell.runs}
    while True:
        runs = {r: p for r, p in places(known, directory).items() if r in needed}
        news = [path for path in sorted(set(runs.values())) if path not in parts]
        if not news:
            return runs, {path: parts[path] for path in set(runs.values())}
        for place, path in enumerate(news):
            with doing("reading cells", place, len(news)):
                data = _checked(path, known[path.name], found)
            if data is None:
                del known[path.name]
            else:
                parts[path] = _lazily(path) if lazy else data


def _checked(path: Path, entry: Entry, found: list[Damage]) -> xarray.Dataset | None:
    try:
        data = read_file(path)
        check_runs(data, entry.runs)
        return data
    except Damaged as error:
        found.append(set_aside(path, str(error), entry.runs))
        return None


def _lazily(path: Path) -> xarray.Dataset:
    return in_present_schema(xarray.open_dataset(path, engine="h5netcdf", chunks={}))


def _assemble(
    wanted: Iterable[Cell],
    runs: Mapping[str, Path],
    contents: Mapping[Path, xarray.Dataset],
    study: Study,
) -> xarray.Dataset:
    """Seeds beside one another, then sizes, then the further axes, each in the study's order."""
    shapes: dict[tuple, list[xarray.Dataset]] = {}
    for cell in wanted:
        files: dict[Path, set[str]] = {}
        for run in (run for run in cell.runs if run in runs):
            files.setdefault(runs[run], set()).add(run)
        for path, names in sorted(files.items()):
            part = _wanted_part(contents[path], names)
            shapes.setdefault((cell.variant, cell.size), []).append(part)
    sizes: dict[tuple, list[xarray.Dataset]] = {}
    for (variant, _), parts in shapes.items():
        sizes.setdefault(variant, []).append(_concat(parts, "seed"))
    blocks = [_with_axes(_concat(parts, "size"), v, study) for v, parts in sizes.items()]
    data = xarray.merge(
        numbered(blocks), join="outer", compat="no_conflicts", combine_attrs="drop_conflicts"
    )
    values = axis_values(study)
    order: dict[str, Sequence[Any]] = {axis: values[key] for key, axis in axis_names(study).items()}
    order["size"] = all_sizes(study)
    data = data.reindex({axis: [v for v in o if v in data[axis]] for axis, o in order.items()})
    data = data.map(_without_missing_words, keep_attrs=True)
    return data.assign_attrs(study=to_toml(study))


def _wanted_part(data: xarray.Dataset, wanted: set[str]) -> xarray.Dataset:
    return data.sel(seed=[str(run) in wanted for run in np.ravel(data["run"].values)])


def _with_axes(data: xarray.Dataset, variant: tuple, study: Study) -> xarray.Dataset:
    names = axis_names(study)
    return data.expand_dims({names[key]: [value] for key, value in variant})


def _concat(parts: list[xarray.Dataset], axis: str) -> xarray.Dataset:
    join: Any = functools.partial(
        xarray.concat, combine_attrs="drop_conflicts", join="outer", data_vars="all"
    )
    return join(numbered(parts), axis).sortby(axis)


def _without_missing_words(variable: xarray.DataArray) -> xarray.DataArray:
    return variable.fillna("").astype(str) if variable.dtype == object else variable


def _mixture(data: xarray.Dataset) -> str:
    """A sentence if the runs were computed by several versions or on several kinds of machine."""
    there = sorted({str(text) for text in np.ravel(data["versions"].values)} - {""})
    if len(there) < 2:
        return ""
    words = [set(text.split(", ")) for text in there]
    differ = sorted(set().union(*words) - set.intersection(*words))
    text = (
        f"The runs were computed by {len(there)} sets of versions and machines, which differ in "
        f"{', '.join(differ)}; each run's own are its `versions`."
    )
    warnings.warn(text, stacklevel=3)
    return text
