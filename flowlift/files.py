"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[str], object], *, durable: bool = True) -> None:
    """Write a file beside its place, flush it, and move it there.

    Args:
        path: its place; folders are made.
        write: writes the file, given a temporary name.
        durable: flush file and folder to the disk, so that not even a power failure tears it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)
        if durable:
            _flush(temporary)
        os.replace(temporary, path)
        if durable:
            _flush(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """As `write_whole`, for a text."""
    write_whole(path, lambda temporary: Path(temporary).write_text(text), durable=durable)


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Once, on import: reading it later would change it for other threads meanwhile.
_UMASK = _umask()
