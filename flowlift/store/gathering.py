"""The cells of a study as one labelled dataset, with what has to be said of it."""

import types
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray

from .. import accessor  # noqa: F401 registers `data.flowlift`
from ..doing import doing
from ..studies.grid import Cell, cells
from ..studies.records import Study
from ..studies.toml import recorded_study
from .ahead import Ahead
from .assembling import assemble
from .blocks import ORIGIN, ORIGINS, Block, block_of
from .cells import check_runs, index, read_file
from .damage import Damage, damages, explained, remark, set_aside
from .digests import Damaged
from .entry import Entry
from .folding import fold_many
from .index import Watch, latest
from .later import later, without_values
from .names import CELLS, STUDY

_REMARKS = "remarks"
# Of every file: `cells` reads its entry of the index from them, or they place its runs.
_ALWAYS = ("run", "versions", "result", "reason", "ended", "seconds", "size", "seed")
_ALWAYS += (ORIGIN, ORIGINS)


# What a file holds, by name and with its digest.
_Read = Mapping[str, tuple[str, Block]]
_NONE: _Read = types.MappingProxyType({})


class NothingStored(FileNotFoundError):
    """Raised for a folder that holds no finished run of the study."""


def load(
    directory: str | Path,
    study: Study | None = None,
    *,
    lazy: bool = False,
    variables: Collection[str] | None = None,
) -> xarray.Dataset:
    """A study's finished runs, as one dataset.

    Where there are many small files, they are put together first, once: see `fold`. Every file is
    checked against its digest. One that is damaged is set aside, and the results say so: see
    `remarks`.

    Args:
        directory: the folder that `run_study` wrote.
        study: whose runs to take; None for the study last run there.
        lazy: leave the arrays on disk until they are computed with, one Dask chunk per size and
            combination of further axes (needs the extra `dask`); for stores that exceed the memory.
        variables: the variables that are needed, as far as there are such; None: all.

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
    fold_many(directory, found)
    runs, blocks = _read(directory, wanted, found, _names(variables), lazy=lazy)
    missing = {run for cell in wanted for run in cell.runs} - set(runs)
    harm = [*damages(directory), *found]
    said = remark(harm, missing)
    if not blocks or study is None:
        raise NothingStored(
            f"Argument `results` must be a folder written by `flowlift run`, but "
            f"{str(directory)!r} holds no finished cell of its study; run the study first."
            + f" {said}"
            * bool(said)
        )
    fill = later(directory) if lazy else None
    data = assemble(blocks.items(), runs, study, wanted, fill)
    said = [said, _not_there(missing - explained(harm, missing), wanted), _mixture(data)]
    if variables is not None:
        data = data[[name for name in data.data_vars if name in variables]]
    return data.assign_attrs({_REMARKS: "\n".join(s for s in said if s)} if any(said) else {})


def _not_there(missing: Collection[str], wanted: Iterable[Cell]) -> str:
    """A sentence if an answer rests on a part of the study's runs; it looks like the whole."""
    if not missing:
        return ""
    runs = sum(len(cell.runs) for cell in wanted)
    return (
        f"{len(missing)} of the {runs} runs that this study names are not stored: they have not "
        "been run yet, a sequential design left them out, or their files are gone; `flowlift run` "
        "computes them."
    )


def load_cells(
    directory: Path,
    study: Study,
    wanted: Sequence[Cell],
    *,
    variables: Collection[str] | None = None,
    watch: Watch | None = None,
    ahead: Ahead | None = None,
) -> xarray.Dataset:
    """As `load`, of some cells alone: their files are read and no others.

    Args:
        directory: the folder of results.
        study: the study.
        wanted: its cells.
        variables: the variables that are needed, as far as there are such; None: all.
        watch: tells where they are, where it knows of all; else the index is read.
        ahead: cells that were read when they were finished; it gives them away.

    Returns:
        As `load`, without remarks; a warning names files that are damaged.

    Raises:
        NothingStored: if none of their runs is stored.
        NotRead: if the system refuses to read a file.
    """
    needed = [run for cell in wanted for run in cell.runs]
    known = {} if watch is None else watch.entries(needed)
    if not {run for entry in known.values() for run in entry.runs}.issuperset(needed):
        known = None
    read = {} if ahead is None else ahead.given()
    names = _names(variables)
    runs, blocks = _read(directory, wanted, [], names, lazy=False, known=known, read=read)
    if not blocks:
        raise NothingStored(f"{str(directory)!r} holds no run of these cells; run the study first.")
    return assemble(blocks.items(), runs, study, wanted)


def remarks(results: xarray.Dataset) -> list[str]:
    """What an answer from results must say: damage, runs that are missing, versions that differ.

    Args:
        results: as given by `load`.

    Returns:
        Sentences; none if all is well.
    """
    return str(results.attrs.get(_REMARKS, "")).splitlines()


def _names(variables: Collection[str] | None) -> Collection[str] | None:
    """What is read of files: what is asked for, and what places runs and says where they ran."""
    return None if variables is None else {*variables, *_ALWAYS}


def _read(
    directory: Path,
    wanted: Iterable[Cell],
    found: list[Damage],
    names: Collection[str] | None,
    *,
    lazy: bool,
    known: dict[str, Entry] | None = None,
    read: _Read = _NONE,
) -> tuple[dict[str, str], dict[str, Block]]:
    """The file of each wanted run, and the content of each file; damage is added to `found`."""
    known, blocks = index(directory, found) if known is None else known, {}
    needed = {run for cell in wanted for run in cell.runs}
    while True:
        runs = {r: e.file for r, (e, _) in latest(known.values()).items() if r in needed}
        there = sorted(set(runs.values()))
        news = [name for name in there if name not in blocks]
        if not news:
            return runs, {name: blocks[name] for name in there}
        gone = False
        for place, name in enumerate(news):
            path = directory / CELLS / name
            digest, block = read.get(name, ("", None))
            if block is None or digest != known[name].digest:
                with doing("reading cells", place, len(news)):
                    block = _checked(path, known[name], found, names)
            if block is None:
                # A run of it may stand in another file: then that one counts.
                del known[name]
                gone = gone or not path.exists()
            else:
                blocks[name] = without_values(block) if lazy else block
        if gone:
            # Set aside, or folded under our hands.
            known = index(directory, found)


def _checked(
    path: Path, entry: Entry, found: list[Damage], names: Collection[str] | None
) -> Block | None:
    """The content of a file; None if it is damaged, or has gone."""
    try:
        data = read_file(path, names)
        if data is None:
            return None
        check_runs(data, entry.runs)
        return block_of(data)
    except Damaged as error:
        found.append(set_aside(path, str(error), entry.runs))
        return None


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
