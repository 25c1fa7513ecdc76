"""Results on disk: one self-describing NetCDF file per cell, written atomically.

A folder of results holds ::

    study.toml          the resolved study that was run last, and plan.json: its runs
    cells/<hash>.nc     runs of one cell, named by a hash of the identities it was made for; it
                        grows by being replaced whole, and ends with a digest of its content
    cells/folded-*.nc   runs of many cells whose files are gone: see `folding`
    index/*.jsonl       what the cells hold, one file per writer: a cache, safe to delete
    claims/*.json       who computes what right now
    running/<run>.npz   where long runs stand
    set_aside/          files that are damaged, moved there and named in damaged.jsonl

The listing of cells/ is the truth about what has been run. The schema is in docs/store.md.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray

from ..doing import doing
from ..files import (
    NotRead,
    NotWritten,
    of_the_system,
    read_bytes,
    read_with_time,
    remedy,
    write_text,
    write_whole,
)
from ..studies.grid import SCHEMA, Cell, rows
from ..studies.records import Study
from ..studies.rows import Row
from ..studies.toml import recorded_study, to_toml
from .damage import Damage, set_aside
from .digests import Damaged, sealed, unsealed
from .entry import Entry
from .index import append, latest, once_said, read_index, unread
from .kept_sources import keep_sources
from .names import CELLS, STUDY
from .plain_netcdf import read_netcdf
from .plan import write_plan
from .schema import SEALED, counts_as_failed, in_present_schema
from .templates import netcdf_bytes


class StoreError(OSError):
    """Raised when results cannot be written; what had been stored is untouched."""


class NewerSchema(ValueError):
    """Raised for a file that a newer version wrote."""


@contextlib.contextmanager
def storing(directory: Path) -> Iterator[None]:
    """Say what a failure to write means.

    Args:
        directory: the folder of results.

    Yields:
        Nothing.

    Raises:
        StoreError: instead of `NotWritten`.
    """
    try:
        yield
    except NotWritten as error:
        raise StoreError(
            f"The folder of results {str(directory)!r} could not be written ({error.cause}); "
            f"{remedy(error.cause)}, and run the same command again: what it holds is whole, and "
            "is not repeated."
        ) from error


def write_study(study: Study, directory: Path, plan: Iterable[Row] | None = None) -> None:
    """Write the resolved study and its plan beside its results.

    Args:
        study: the study.
        directory: the folder of results.
        plan: the study's rows where they are known already.

    Raises:
        StoreError: if they cannot be written.
    """
    with storing(directory):
        keep_sources(study, directory)
        write_text(directory / STUDY, to_toml(study))
        write_plan(directory, study.name, rows(study) if plan is None else plan)


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
    content = sealed(netcdf_bytes(data.assign_attrs(cell=cell.name)))
    if path.is_dir():
        set_aside(path, "it is a folder where a cell belongs")
    with storing(directory):
        write_whole(path, lambda temporary: Path(temporary).write_bytes(content))
    append(directory, _entry(data, path.name, content, path.stat().st_mtime_ns))


def path_of(cell: Cell, directory: Path) -> Path:
    """Where the runs of a cell are kept."""
    return directory / CELLS / f"{cell.name}.nc"


def read_cell(cell: Cell, directory: Path) -> xarray.Dataset | None:
    """What the file of a cell holds so far; one that is damaged is set aside.

    Args:
        cell: the cell.
        directory: the folder of results.

    Returns:
        Its results, None if there is no such file.

    Raises:
        NotRead: if the system refuses to read it.
    """
    path = path_of(cell, directory)
    try:
        return read_file(path)
    except Damaged as error:
        set_aside(path, str(error), cell.runs)
        return None


def read_file(path: Path, names: Collection[str] | None = None) -> xarray.Dataset | None:
    """The content of a cell's file, its digest checked, in the present schema.

    Args:
        path: the file.
        names: the variables to read; None reads all.

    Returns:
        Its results, in memory; None if there is no such file.

    Raises:
        Damaged: if the content is not what was written, or that of another cell.
        NewerSchema: if a newer version wrote it.
        NotRead: if the system refuses to read it; nothing follows for its content then.
    """
    return read_with_entry(path, names)[0]


def read_with_entry(
    path: Path, names: Collection[str] | None = None
) -> tuple[xarray.Dataset, Entry] | tuple[None, None]:
    """As `read_file`, with what an index says of the very same content."""
    found = read_with_time(path)
    return (None, None) if found is None else typed(path, *found, names)


def typed(
    path: Path, raw: bytes, changed: int, names: Collection[str] | None = None
) -> tuple[xarray.Dataset, Entry]:
    """As `read_with_entry`, of bytes that have been read.

    Args:
        path: the file.
        raw: its bytes.
        changed: when it was written, in nanoseconds since 1970.
        names: the variables to read; None reads all.

    Returns:
        Its results, and what an index says of them.

    Raises:
        Damaged: as `read_with_entry`.
        NewerSchema: as `read_with_entry`.
    """
    content, digest = unsealed(raw)
    data = _parsed(content, path, names, whole=bool(digest))
    schema = int(data.attrs["schema"])
    if schema > SCHEMA:
        raise NewerSchema(
            f"Argument `results` must hold files of schema {SCHEMA} at most, but {str(path)!r} has "
            f"schema {schema}; read it with a newer version of flowlift."
        )
    if schema >= SEALED and not digest:
        raise Damaged("it was altered: its digest is gone")
    # A cell that a fold was taking away has a sign behind its name.
    if schema >= SEALED and data.attrs.get("cell") != path.stem.partition("+")[0]:
        raise Damaged("it is the file of another cell")
    try:
        data = in_present_schema(data)
        return data, _entry(data, path.name, raw, changed)
    except (KeyError, ValueError) as error:
        raise Damaged("it is no readable cell") from error


def _parsed(
    content: bytes, path: Path, names: Collection[str] | None, *, whole: bool
) -> xarray.Dataset:
    try:
        data = read_netcdf(content, names)
        int(data.attrs["schema"])
        return data
    except Exception as error:
        if whole or of_the_system(error):
            raise NotRead(path, OSError(f"{type(error).__name__}: {error}")) from error
        raise Damaged("it is no readable cell") from error


def index(directory: Path, found: list[Damage] | None = None) -> dict[str, Entry]:
    """What each file holds, the index brought up to date.

    Files that no index knows are opened and indexed; one that is damaged, or no cell, is set
    aside with a warning.

    Args:
        directory: the folder of results.
        found: damage is added to it.

    Returns:
        Entries by file name.

    Raises:
        NotRead: if the system refuses to read a file.
    """
    found = [] if found is None else found
    while True:
        known = read_index(directory)
        news = unread(directory, known)
        if _indexed(directory, known, news, found):
            return known


def _indexed(
    directory: Path, known: dict[str, Entry], news: list[Path], found: list[Damage]
) -> bool:
    """Open files that no index knows; False if one had gone, whose runs may be elsewhere now."""
    there = True
    for place, path in enumerate(news):
        try:
            with doing("indexing cells", place, len(news)):
                _, entry = read_with_entry(path)
        except Damaged as error:
            found.append(set_aside(path, str(error), once_said(directory, path.name)))
            continue
        if entry is None:
            there = False
        else:
            known[path.name] = entry
            append(directory, entry)
    return there


def checked(directory: Path, runs: Collection[str]) -> dict[str, Entry]:
    """As `index`, with the content of all files that hold some runs checked.

    Args:
        directory: the folder of results.
        runs: identities. Cost: their files are read; those without a digest are opened.

    Returns:
        Entries by file name, without those of damaged files, which are set aside.

    Raises:
        NotRead: if the system refuses to read a file.
    """
    wanted, sure = set(runs), set()
    while True:
        known, gone = index(directory), False
        for name, entry in list(known.items()):
            if (name, entry.digest) in sure or wanted.isdisjoint(entry.runs):
                continue
            whole = _is_whole(directory / CELLS / name, entry)
            if whole:
                sure.add((name, entry.digest))
            else:
                gone = gone or whole is None
                del known[name]
        if not gone:
            return known


def _is_whole(path: Path, entry: Entry) -> bool | None:
    """Whether a file is what its line says, None if it is gone; one that is not is set aside."""
    try:
        raw = read_bytes(path)
        if raw is None:
            return None
        if entry.digest:
            # Another digest: replaced by another master meanwhile.
            return unsealed(raw)[1] == entry.digest
        check_runs(read_file(path), entry.runs)
        return True
    except Damaged as error:
        set_aside(path, str(error), entry.runs)
        return False


def check_runs(data: xarray.Dataset | None, runs: Collection[str]) -> None:
    """Refuse a file that lacks runs which the index says it holds.

    Args:
        data: its content.
        runs: the runs.

    Raises:
        Damaged: if it lacks one.
    """
    if data is None or not set(runs) <= set(_texts(data, "run")):
        raise Damaged("it holds other runs than those it was indexed with")


def reread(directory: Path) -> tuple[dict[str, Entry], tuple[str, list[Row]] | None]:
    """Bring index and plan up to date with the files, as `flowlift status` needs them.

    Args:
        directory: the folder of results.

    Returns:
        Entries by file name and the plan, whether or not they could be written; None for the plan
        if the folder has no study file.
    """
    known = index(directory)
    if not (directory / STUDY).is_file():
        return known, None
    study = recorded_study(directory / STUDY)
    plan = study.name, list(rows(study))
    with contextlib.suppress(NotWritten):
        write_plan(directory, *plan)
    return known, plan


def finished(directory: Path, *, again: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Which runs are there: identity to file.

    Args:
        directory: the folder of results.
        again: failures that do not count, by run: when each had ended.

    Returns:
        The file of every finished run; where several hold it, the one that counts.
    """
    return places(index(directory), directory, again=again)


def places(
    known: Mapping[str, Entry], directory: Path, *, again: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """As `finished`, of entries that are known."""
    paths = {name: directory / CELLS / name for name in known}
    return {
        run: paths[entry.file]
        for run, (entry, place) in latest(known.values()).items()
        if not entry.is_repeated(place, again or {})
    }


def _entry(data: xarray.Dataset, name: str, content: bytes, changed: int) -> Entry:
    runs, codes = _texts(data, "run"), _texts(data, "result")
    reasons = zip(runs, codes, _texts(data, "reason"), strict=True)
    return Entry(
        file=name,
        runs=runs,
        size=int(data["size"].values[0]),
        seeds=tuple(int(seed) for seed in data["seed"].values),
        results=codes,
        seconds=tuple(float(s) for s in np.ravel(data["seconds"].values)),
        reasons={run: reason for run, code, reason in reasons if counts_as_failed(code)},
        ended=_texts(data, "ended"),
        whole=_numbers(data, "run_seconds"),
        compiling=_numbers(data, "compile_seconds"),
        bytes=len(content),
        digest=unsealed(content)[1],
        changed=changed,
    )


def _numbers(data: xarray.Dataset, name: str) -> tuple[float, ...]:
    """A number of each run; none where the file is older than the number."""
    found = np.ravel(data[name].values) if name in data else np.zeros(0)
    return tuple(float(x) for x in found) if np.isfinite(found).all() else ()


def _texts(data: xarray.Dataset, name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in np.ravel(data[name].values))
