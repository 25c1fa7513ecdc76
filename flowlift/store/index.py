"""The index of a store: a JSON line for each finished cell, one file per writer.

It is a cache. The listing of the cells is the truth, and a line counts only while the file it
speaks of has the size that it names.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .names import CELLS, INDEX, writer


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one cell's file holds.

    Attributes:
        file: its name.
        runs: identities of its runs.
        size: the lift size.
        seeds: a seed per run.
        results: how each run ended, as the result codes of `flowlift.Outcome`.
        seconds: wall time of each flow, compilation included.
        reasons: why runs failed, by identity: those that are not named did not fail.
        ended: when each run ended, UTC, ISO 8601; empty where an old file does not say.
        bytes: the file's size.
        whole: wall time of each run, drawing and observations included; empty in old files.
        compiling: how much of that went into tracing and compiling; empty in old files.
    """

    file: str
    runs: tuple[str, ...]
    size: int
    seeds: tuple[int, ...]
    results: tuple[str, ...]
    seconds: tuple[float, ...]
    reasons: Mapping[str, str]
    ended: tuple[str, ...]
    bytes: int
    whole: tuple[float, ...] = ()
    compiling: tuple[float, ...] = ()


_FIELDS = {field.name for field in dataclasses.fields(Entry)}


def append(directory: Path, entry: Entry) -> None:
    """Add a line to this process's own index file.

    Args:
        directory: the store.
        entry: what a file holds.
    """
    folder = directory / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(entry)) + "\n"
    # One write at the end of the file: lines of several threads do not mix.
    descriptor = os.open(
        folder / f"{writer()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666
    )
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_index(directory: Path) -> dict[str, Entry]:
    """What is known of the files that are there.

    Args:
        directory: the store.

    Returns:
        Entries by file name. Files whose line is missing, torn, of an older version, or does not
        fit their size have none: see `unread`.
    """
    sizes = _listing(directory)
    known: dict[str, Entry] = {}
    for file in sorted((directory / INDEX).glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            entry = _parsed(line)
            if entry is not None and sizes.get(entry.file) == entry.bytes:
                known[entry.file] = entry
    return known


def unread(directory: Path, known: Iterable[str]) -> list[Path]:
    """The cells' files that the index says nothing valid about.

    Args:
        directory: the store.
        known: names of files that are known.

    Returns:
        Their paths.
    """
    names = _listing(directory).keys() - set(known)
    return [directory / CELLS / name for name in sorted(names)]


def latest(entries: Iterable[Entry]) -> dict[str, tuple[Entry, int]]:
    """The entry that counts for each run, where several files hold it.

    A run that did not fail counts before one that did, then the later one: a retried run replaces
    its failure, whatever the files are called.

    Args:
        entries: entries.

    Returns:
        For each identity the entry, and the run's position in it.
    """
    best: dict[str, tuple[tuple, Entry, int]] = {}
    for entry in entries:
        for place, run in enumerate(entry.runs):
            rank = (run not in entry.reasons, entry.ended[place], entry.file)
            if run not in best or best[run][0] < rank:
                best[run] = (rank, entry, place)
    return {run: (entry, place) for run, (_, entry, place) in best.items()}


def _listing(directory: Path) -> dict[str, int]:
    try:
        with os.scandir(directory / CELLS) as found:
            return {e.name: e.stat().st_size for e in found if e.name.endswith(".nc")}
    except FileNotFoundError:
        return {}


def _parsed(line: bytes) -> Entry | None:
    """An entry; None for the last line of a writer that was killed, and for old lines."""
    try:
        raw: dict[str, Any] = json.loads(line)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in raw.items()
            if name in _FIELDS
        }
        return Entry(**values)
    except (ValueError, TypeError, AttributeError):
        return None
