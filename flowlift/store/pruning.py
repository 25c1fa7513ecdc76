"""Lines of the index whose files are gone, dropped: a status reads what is there.

The index is a cache, so that nothing is lost whatever becomes of a line: a file that no line speaks
of is opened and indexed. Lines that are kept stand in a new file before the old ones go, so that a
kill between the two leaves lines twice, which count once.
"""

import contextlib
import os
import time
from pathlib import Path

from ..files import write_whole
from .index import cell_names, contents, file_of
from .names import INDEX, writer

# Files of the index from which on they are made one: a reader opens each.
_MANY = 64


def prune(directory: Path) -> None:
    """Write the lines of the index anew, where at least a third of its bytes speak of what is gone.

    An index is then written again only when it has grown by half, or by many writers. What cannot
    be written or removed stays. Writers and readers go on meanwhile: a file of the index that has
    grown since it was read stays.

    Args:
        directory: the store.
    """
    folder = directory / INDEX
    # What a line speaks of was there before the line: a listing made later has it, or it is gone.
    read = contents(directory)
    there = cell_names(directory)
    lines = [line for content in read.values() for line in content.splitlines()]
    kept = b"".join(line + b"\n" for line in lines if file_of(line) in there)
    gone = sum(map(len, read.values())) - len(kept)
    if 2 * gone < len(kept) and len(read) < _MANY:
        return
    new = folder / f"{writer()}-{time.time_ns()}.jsonl"
    with contextlib.suppress(OSError):
        write_whole(new, lambda part: Path(part).write_bytes(kept))
        for name, content in read.items():
            _remove(folder / name, len(content))


def _remove(path: Path, length: int) -> None:
    """Remove a file of the index that is as long as it was read."""
    # A writer that adds its line between these two calls has its cell indexed by the next reader.
    with contextlib.suppress(OSError):
        if path.stat().st_size == length:
            os.unlink(path)
