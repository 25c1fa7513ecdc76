"""Finished cells put together into few larger files: a store is read as fast as it is large.

A folded file holds the runs of many cells, one row each, and lies among them, sealed like them.
It appears whole; then, one by one, the files go whose runs it holds. Killed at any moment, a fold
leaves runs in two files at most, which count once (`index.latest`). Writers and readers go on
meanwhile: cells that a live writer claims stay, one that was replaced since it was read stays too,
and a reader whose file has gone finds its runs where they are now.
"""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..doing import doing
from ..files import read_bytes, read_with_time, write_whole
from ..studies.grid import SCHEMA
from .blocks import Block, block_of, folded, layout_of, together
from .cells import index, read_with_entry, storing, typed
from .claims import claims
from .damage import Damage, set_aside
from .digests import Damaged, sealed, unsealed
from .entry import Entry
from .index import append
from .names import CELLS, FOLDED, LOCK, writer
from .pruning import prune
from .templates import made

# Files from which a fold saves a reader more than a second.
_MANY = 64
# Bytes of a cell from which its numbers take longer to read than its names, and of a folded file:
# it is made in memory, and read whole.
_LARGE, _FULL = 2**22, 2**25


def fold(directory: str | Path, *, least: int = 2, found: list[Damage] | None = None) -> int:
    """Put finished cells together.

    Files that are damaged are set aside with a warning, as by every reader, and the rest is folded.

    Args:
        directory: the folder of results.
        least: do nothing where fewer cells could be folded.
        found: damage is added to it.

    Returns:
        How many files went. 0 where another fold is at work, or the folder cannot be written.

    Raises:
        StoreError: if a file could not be written, e.g. because the disk is full; nothing is lost.
        NewerSchema: if a newer version wrote a file; nothing is folded.
        NotRead: if the system refuses to read a file.
    """
    directory, found = Path(directory), [] if found is None else found
    if _count(directory) < least:
        return 0
    with _alone(directory) as alone:
        if not alone:
            return 0
        chosen = _chosen(directory, index(directory, found), least)
        gone = 0
        for batch in _batches(directory, chosen, found):
            with storing(directory):
                gone += _put_together(directory, batch)
        if gone:
            prune(directory)
        return gone


def fold_many(directory: Path, found: list[Damage]) -> None:
    """Fold where a reader would wait for it; what cannot be written stays as it is.

    Args:
        directory: the folder of results.
        found: damage is added to it.
    """
    # The cells hold all: an answer does not depend on it. A disk that is full says so to writers.
    with contextlib.suppress(OSError):
        fold(directory, least=_MANY, found=found)


def _count(directory: Path) -> int:
    """How many files are no folded ones."""
    try:
        names = os.listdir(directory / CELLS)
    except OSError:
        return 0
    return sum(name.endswith(".nc") and not name.startswith(FOLDED) for name in names)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Give whether no other process folds here; the system frees the lock of one that is killed."""
    # Where there are no locks, two folds at once write each run twice, which counts once.
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield False
        return
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _chosen(directory: Path, known: dict[str, Entry], least: int) -> list[Entry]:
    """Small cells that nobody is computing, and folded files that are no larger than these."""
    # Each run is then written again only when the runs beside it have doubled.
    claimed = {run for claim in claims(directory) if claim.alive for run in claim.runs}
    free = [
        entry for entry in known.values() if entry.bytes < _LARGE and claimed.isdisjoint(entry.runs)
    ]
    small = [entry for entry in free if not entry.file.startswith(FOLDED)]
    if len(small) < least:
        return []
    runs, merged = sum(len(entry.runs) for entry in small), []
    there = [e for e in known.values() if e.file.startswith(FOLDED) and e.bytes <= _FULL // 2]
    for entry in sorted(there, key=lambda e: len(e.runs)):
        if len(entry.runs) <= runs:
            merged.append(entry)
            runs += len(entry.runs)
    return sorted([*small, *merged], key=lambda e: (e.size, e.seeds[:1], e.file))


# A file, the digest of all its bytes, and its content.
_Source = tuple[Path, str, Block]


def _batches(
    directory: Path, chosen: Sequence[Entry], found: list[Damage]
) -> Iterator[list[_Source]]:
    """Sources of one layout each, as many as make a full file; the last of each layout fewer."""
    open_: dict[tuple, tuple[list[_Source], int]] = {}
    for place, entry in enumerate(chosen):
        path = directory / CELLS / entry.file
        with doing("folding cells", place, len(chosen)):
            source = _read(path, entry, found)
        layout = source and layout_of(source[2])
        if source is None or layout is None:
            continue
        batch, size = open_.pop(layout, ([], 0))
        if size + entry.bytes > _FULL:
            yield batch
            batch, size = [], 0
        open_[layout] = ([*batch, source], size + entry.bytes)
    for batch, _ in open_.values():
        yield batch


def _read(path: Path, entry: Entry, found: list[Damage]) -> _Source | None:
    """A file's content; None if it has gone, or is damaged."""
    if (there := read_with_time(path)) is None:
        return None
    raw, changed = there
    try:
        data, _ = typed(path, raw, changed)
    except Damaged as error:
        found.append(set_aside(path, str(error), entry.runs))
        return None
    return path, hashlib.sha256(raw).hexdigest(), block_of(data)


def _put_together(directory: Path, batch: Sequence[_Source]) -> int:
    """Write one file for a batch, then remove the files it holds the runs of."""
    if len(batch) < 2:
        return 0
    block = _in_order(_each_once(together([block for _, _, block in batch])))
    name = FOLDED + hashlib.sha256("".join(block.runs).encode()).hexdigest()[:16]
    path = directory / CELLS / f"{name}.nc"
    content = sealed(made(folded(block, name, SCHEMA)))
    write_whole(path, lambda temporary: Path(temporary).write_bytes(content))
    try:
        entry = read_with_entry(path)[1]
    except Damaged as error:
        set_aside(path, str(error), block.runs)
        return 0
    if entry is None or entry.digest != unsealed(content)[1]:
        # Another took it away at once. What it holds the cells hold, which stay.
        return 0
    append(directory, entry, durable=True)
    return sum(_remove(source, digest) for source, digest, _ in batch if source != path)


def _each_once(block: Block) -> Block:
    """Of a run that several rows hold, the one that counts: see `index.latest`."""
    columns = [block.columns[name].values.tolist() for name in ("run", "reason", "ended")]
    best: dict[str, tuple[tuple, int]] = {}
    for row, (run, reason, ended) in enumerate(zip(*columns, strict=True)):
        rank = (not reason, ended)
        if run not in best or best[run][0] <= rank:
            best[run] = (rank, row)
    return block.taken(np.array(sorted(row for _, row in best.values())))


def _in_order(block: Block) -> Block:
    """Runs of one variant beside one another, then by size and seed: they are read so."""
    sizes, seeds = block.axes["size"].values, block.axes["seed"].values
    return block.taken(np.lexsort((seeds, sizes, block.origin)))


def _remove(path: Path, digest: str) -> bool:
    """Remove a file if it is still what was read; moved first, so that nothing replaces it then."""
    moved = path.with_name(f"{path.stem.partition('+')[0]}+{writer()}-{time.time_ns()}.nc")
    try:
        os.rename(path, moved)
        raw = read_bytes(moved)
        if raw is None or hashlib.sha256(raw).hexdigest() != digest:
            # A writer that goes on has added runs: it stays under this name, for the next fold.
            return False
        os.unlink(moved)
    except OSError:
        # Another fold was first; or what cannot be removed stays, and counts once.
        return False
    return True
