"""The index of a store: a JSON line for each finished cell, one file per writer.

It is a cache. The listing of the cells is the truth, and a line counts only while the file it
speaks of has the size that it names, and the time of change or the digest. Lines of files that are
gone are dropped by `pruning`.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import NotRead, file_names, read_bytes, regular_files
from .digests import of_line, seal_of
from .entry import Entry
from .names import CELLS, FOLDED, INDEX, writer

# How lines begin, as `append` writes them.
_HEAD = b'{"file": "'
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
        # One write at the end of the file: lines of several threads do not mix.
        descriptor = _opened(folder / f"{writer()}.jsonl")
        try:
            os.write(descriptor, line.encode())
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _opened(path: Path) -> int:
    how = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, how, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, how, 0o666)


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
    there, known = _listing(directory), {}
    for name, lines in lines_by_file(directory, there).items():
        # The last line that fits counts, most often the last.
        entries = filter(None, map(_parsed, reversed(lines)))
        stands = _standing(directory / CELLS / name, there[name])
        if (entry := next(filter(stands, entries), None)) is not None:
            known[name] = entry
    return known


def _standing(path: Path, found: os.stat_result) -> Callable[[Entry], bool]:
    """Whether a line fits a file: by what the system says of it, or by its digest."""
    seal = functools.cache(lambda: _seal(path))
    return lambda entry: (
        _fits(found, entry) or (found.st_size == entry.bytes and seal() == entry.digest)
    )


def once_said(directory: Path, name: str) -> set[str]:
    """Runs that a file held at any time, as far as the index knows.

    Args:
        directory: the store.
        name: the file's name.

    Returns:
        Identities.
    """
    lines = lines_by_file(directory, (name,)).get(name, ())
    return {run for entry in filter(None, map(_parsed, lines)) for run in entry.runs}


def lines_by_file(directory: Path, names: Container[str]) -> dict[str, list[bytes]]:
    """The lines that speak of some files, in their order, whole or torn.

    Args:
        directory: the store.
        names: the files' names.

    Returns:
        Lines by the file they speak of.
    """
    found: dict[str, list[bytes]] = {}
    for content in contents(directory).values():
        for line in content.splitlines():
            if (file := file_of(line)) in names:
                found.setdefault(file, []).append(line)
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """The files of the index.

    Args:
        directory: the store.

    Returns:
        Their contents by name, sorted.

    Raises:
        NotRead: if the system refuses to read one.
    """
    while True:
        names = file_names(directory / INDEX, ".jsonl")
        paths = [path for name in names if os.path.isfile(path := directory / INDEX / name)]
        read = {path.name: read_bytes(path) for path in paths}
        found = {name: content for name, content in read.items() if content is not None}
        # Whoever takes one away has written its lines to another one before.
        if len(found) == len(names) or file_names(directory / INDEX, ".jsonl") == names:
            return found


def file_of(line: bytes) -> str:
    """The file that a line speaks of; lines of files that are gone need no more reading.

    Args:
        line: the line.

    Returns:
        The file's name; empty where the line does not say.
    """
    if line.startswith(_HEAD):
        return line[len(_HEAD) : line.find(b'"', len(_HEAD))].decode(errors="replace")
    entry = _parsed(line)
    return "" if entry is None else entry.file


class Watch:
    """What the index says, for a writer that looks again and again: each look reads what is new."""

    def __init__(self, directory: Path):
        """Begin with nothing read.

        Args:
            directory: the store.
        """
        self._directory = directory
        # Of each file of the index which one it is, and how far it was read.
        self._read: dict[str, tuple[int, int]] = {}
        # What is known of each run, the entry of a file once.
        self._entries: dict[str, tuple[Entry, ...]] = {}

    def stored(self, runs: Iterable[str], again: Mapping[str, str] = {}) -> set[str]:
        """Which of some runs are stored by now, by whom ever.

        Args:
            runs: identities.
            again: failures that do not count, by run: when each had ended.

        Returns:
            Those that a file holds which is there now, as the line of the index says it is. Cost:
            a listing of the index, its new lines, and a look at the files that hold the runs.
        """
        runs = list(runs)
        there = self.entries(runs)
        return {
            run
            for run in runs
            for entry in self._entries.get(run, ())
            if there.get(entry.file) is entry
            and not entry.is_repeated(entry.runs.index(run), again)
        }

    def entries(self, runs: Iterable[str]) -> dict[str, Entry]:
        """The files that hold some runs and are there now, as the lines of the index say.

        Args:
            runs: identities.

        Returns:
            Entries by file name, with what tells which file counts for a run, and no more. Cost:
            a listing of the index, its new lines, and a look at each of these files.
        """
        self._read_on()
        found = {id(entry): entry for run in runs for entry in self._entries.get(run, ())}
        return {e.file: e for e in found.values() if _is_there(self._directory, e)}

    def _read_on(self) -> None:
        folder = self._directory / INDEX
        for name, known in regular_files(folder, ".jsonl").items():
            file, start = self._read.get(name, (known.st_ino, 0))
            if (known.st_ino, known.st_size) == (file, start):
                continue
            # Another file of the same name is read from its beginning.
            start = start if known.st_ino == file and known.st_size > start else 0
            added = read_bytes(folder / name, start) or b""
            complete = added[: added.rfind(b"\n") + 1]
            self._read[name] = known.st_ino, start + len(complete)
            for entry in filter(None, map(_parsed, complete.splitlines())):
                self._know(_brief(entry))

    def _know(self, entry: Entry) -> None:
        # Lines that were copied come after newer ones of the same file.
        for run in entry.runs:
            known = self._entries.get(run, ())
            if not any(e.file == entry.file and e.changed > entry.changed for e in known):
                others = (e for e in known if e.file != entry.file)
                self._entries[run] = (*others, entry)


def _brief(entry: Entry) -> Entry:
    """Without what tells nothing of whether a run is stored, and which file counts for it."""
    return dataclasses.replace(entry, seeds=(), results=(), seconds=(), whole=(), compiling=())


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
    names = sorted(cell_names(directory) - set(known))
    return [path for name in names if os.path.isfile(path := directory / CELLS / name)]


def latest(entries: Iterable[Entry]) -> dict[str, tuple[Entry, int]]:
    """The entry that counts for each run, where several files hold it.

    A run that did not fail counts before one that did, then the later one: a retried run replaces
    its failure, whatever the files are called.

    Args:
        entries: entries.

    Returns:
        For each identity the entry, and the run's position in it.
    """
    entries = list(entries)
    # Most often each run is in one place: then one look at each is enough.
    best = dict(itertools.chain.from_iterable(map(_places, entries)))
    if len(best) == sum(len(entry.runs) for entry in entries):
        return best
    best = {}
    for run, found in itertools.chain.from_iterable(map(_places, entries)):
        if run not in best or _rank(*best[run]) < _rank(*found):
            best[run] = found
    return best


def _places(entry: Entry) -> Iterator[tuple[str, tuple[Entry, int]]]:
    return zip(entry.runs, zip(itertools.repeat(entry), itertools.count()), strict=False)


def _rank(entry: Entry, place: int) -> tuple:
    return entry.runs[place] not in entry.reasons, entry.ended[place], entry.file


def cell_names(directory: Path) -> set[str]:
    """What is called as the cells' files are, at one moment.

    Args:
        directory: the store.

    Returns:
        Names. Cost: two listings, whatever is there.
    """
    # A folded file appears before the cells go that it holds. A listing made meanwhile might have
    # neither: it is made again if a folded file is new after it, or a file gone.
    while True:
        found, after = (set(file_names(directory / CELLS, ".nc")) for _ in range(2))
        if found <= after and not any(name.startswith(FOLDED) for name in after - found):
            return found


def _listing(directory: Path) -> dict[str, os.stat_result]:
    """The files of the cells; what is no file of ours is passed over. One look a file."""
    while True:
        found = regular_files(directory / CELLS, ".nc")
        after = set(file_names(directory / CELLS, ".nc"))
        new = [name for name in after - found.keys() if name.startswith(FOLDED)]
        if found.keys() <= after and not any(os.path.isfile(directory / CELLS / n) for n in new):
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
