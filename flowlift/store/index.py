"""The index of a store: a JSON line for each finished cell, one file per writer.

It is a cache. The listing of the cells is the truth, and a line counts only while the file it
speaks of has the size that it names, and the time of change or the digest.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import NotRead, read_bytes, regular_files
from .digests import of_line, seal_of
from .names import CELLS, FOLDED, INDEX, writer


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one cell's file holds.

    Attributes:
        file: its name.
        runs: identities of its runs.
        size: the lift size; of a folded file that of its first run.
        seeds: a seed per run.
        results: how each run ended, as the result codes of `flowlift.Outcome`.
        seconds: wall time of each flow, compilation included.
        reasons: why runs failed, by identity: those that are not named did not fail.
        ended: when each run ended, UTC, ISO 8601; empty where an old file does not say.
        bytes: the file's size.
        whole: wall time of each run, drawing and observations included; empty in old files.
        compiling: how much of that went into tracing and compiling; empty in old files.
        digest: of the file's content, as it stands at the file's end; empty for old files.
        changed: when the file was written, in nanoseconds since 1970.
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
    digest: str = ""
    changed: int = 0


_FIELDS = {field.name for field in dataclasses.fields(Entry)}


def append(directory: Path, entry: Entry, *, durable: bool = False) -> None:
    """Add a line to this process's own index file; where that cannot be written, do without.

    Args:
        directory: the store.
        entry: what a file holds.
        durable: flush it to the disk.
    """
    folder, text = directory / INDEX, json.dumps(dataclasses.asdict(entry))
    line = f"{text}\t{of_line(text)}\n"
    # A store that is read-only, or full: the files themselves tell what the line would.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        # One write at the end of the file: lines of several threads do not mix.
        descriptor = os.open(
            folder / f"{writer()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666
        )
        try:
            os.write(descriptor, line.encode())
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_index(directory: Path) -> dict[str, Entry]:
    """What is known of the files that are there.

    Args:
        directory: the store.

    Returns:
        Entries by file name. Files whose line is missing, torn, of an older version, or does not
        fit them have none: see `unread`. Cost: a listing; and the end of those files that have
        changed since, or were copied.

    Raises:
        NotRead: if the system refuses to list or to open the files.
    """
    there, known, seals = _listing(directory), {}, {}
    for entry in _lines(directory):
        found = there.get(entry.file)
        if found is None or found.st_size != entry.bytes:
            continue
        if not _fits(found, entry):
            if entry.file not in seals:
                seals[entry.file] = _seal(directory / CELLS / entry.file)
            if seals[entry.file] != entry.digest:
                continue
        known[entry.file] = entry
    return known


def once_said(directory: Path, name: str) -> set[str]:
    """Runs that a file held at any time, as far as the index knows.

    Args:
        directory: the store.
        name: the file's name.

    Returns:
        Identities.
    """
    return {run for entry in _lines(directory) if entry.file == name for run in entry.runs}


def _lines(directory: Path) -> Iterator[Entry]:
    for name in regular_files(directory / INDEX, ".jsonl"):
        for line in (read_bytes(directory / INDEX / name) or b"").splitlines():
            if (entry := _parsed(line)) is not None:
                yield entry


class Watch:
    """What the index says, for a writer that looks again and again: each look reads what is new."""

    def __init__(self, directory: Path):
        """Begin with nothing read.

        Args:
            directory: the store.
        """
        self._directory = directory
        self._read: dict[str, int] = {}
        self._entries: dict[str, dict[str, Entry]] = {}

    def stored(self, runs: Iterable[str], *, failures: bool = True) -> set[str]:
        """Which of some runs are stored by now, by whom ever.

        Args:
            runs: identities.
            failures: whether runs that failed are among them.

        Returns:
            Those that a file holds which is there now, as the line of the index says it is. Cost:
            a listing of the index, its new lines, and a look at the files that hold the runs.
        """
        self._read_on()
        return {
            run
            for run in runs
            for entry in self._entries.get(run, {}).values()
            if (failures or run not in entry.reasons) and _is_there(self._directory, entry)
        }

    def _read_on(self) -> None:
        folder = self._directory / INDEX
        for name, known in regular_files(folder, ".jsonl").items():
            if known.st_size == (start := self._read.get(name, 0)):
                continue
            # A shorter file is another one of the same name.
            start = start if known.st_size > start else 0
            added = (read_bytes(folder / name) or b"")[start:]
            complete = added[: added.rfind(b"\n") + 1]
            self._read[name] = start + len(complete)
            for entry in filter(None, map(_parsed, complete.splitlines())):
                for run in entry.runs:
                    # By file, of which the last line counts.
                    self._entries.setdefault(run, {})[entry.file] = entry


def _is_there(directory: Path, entry: Entry) -> bool:
    """Whether a file stands as a line says: by its size, and the time of change or the digest."""
    path = directory / CELLS / entry.file
    try:
        found = path.stat()
    except OSError:
        return False
    return _fits(found, entry) or (found.st_size == entry.bytes and _seal(path) == entry.digest)


def _fits(found: os.stat_result, entry: Entry) -> bool:
    """Whether what the system says of a file is enough to know it: old ones have no digest."""
    same = not entry.digest or found.st_mtime_ns == entry.changed
    return found.st_size == entry.bytes and same


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


def _listing(directory: Path) -> dict[str, os.stat_result]:
    """The files of the cells; what is no file of ours is passed over."""
    # A folded file appears before the cells go that it holds. A listing made meanwhile might have
    # neither: it is made again if a folded file is new after it, or a file gone.
    while True:
        found = regular_files(directory / CELLS, ".nc")
        after = regular_files(directory / CELLS, ".nc").keys()
        if found.keys() <= after and not any(n.startswith(FOLDED) for n in after - found.keys()):
            return found


def _seal(path: Path) -> str | None:
    try:
        return seal_of(path)
    except FileNotFoundError:
        # Another master set it aside.
        return None
    except OSError as error:
        raise NotRead(path, error) from error


def _parsed(line: bytes) -> Entry | None:
    """An entry; None for a torn or altered line, and for lines of older versions."""
    try:
        text, _, check = line.decode().partition("\t")
        raw: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in raw.items()
            if name in _FIELDS
        }
        entry = Entry(**values)
        # Lines of files without a digest are older than these checks.
        whole = check == of_line(text) if entry.digest else check in ("", of_line(text))
        columns = (entry.seeds, entry.results, entry.seconds, entry.ended)
        return entry if whole and {len(c) for c in columns} == {len(entry.runs)} else None
    except (ValueError, TypeError, AttributeError):
        return None
