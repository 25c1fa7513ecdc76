"""A digest behind the content of a file: what is read is what was written, or it is damaged.

A cell's file is its NetCDF content, then a line with the SHA-256 of that content. HDF5 reads only
as far as its own header says, so that every program that reads NetCDF reads such a file.
"""

import hashlib
import os
from pathlib import Path

_WORD = b"\nflowlift sha256 "
_LENGTH = len(_WORD) + 64 + 1


class Damaged(ValueError):
    """Raised for a file whose content is not what was written, or not of its name."""


def sealed(content: bytes) -> bytes:
    """The content with its digest behind it."""
    return content + _WORD + hashlib.sha256(content).hexdigest().encode() + b"\n"


def unsealed(raw: bytes) -> tuple[bytes, str]:
    """The content of a file and its digest.

    Args:
        raw: the whole file.

    Returns:
        Content and digest; the digest is "" for a file without one, as old ones are.

    Raises:
        Damaged: if the digest is that of other content.
    """
    digest = _digest(raw[-_LENGTH:])
    if not digest:
        return raw, ""
    content = raw[:-_LENGTH]
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged("its content is not what was written")
    return content, digest


def seal_of(path: Path) -> str:
    """The digest at the end of a file, its content unread.

    Args:
        path: a regular file.

    Returns:
        The digest, "" where there is none.

    Raises:
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _LENGTH))
        return _digest(file.read())


def of_line(text: str) -> str:
    """16 hexadecimal digits that a line of an index must end with."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(end: bytes) -> str:
    if len(end) != _LENGTH or not end.startswith(_WORD):
        return ""
    digest = end[len(_WORD) : -1].decode("ascii", "replace")
    return digest if set(digest) <= set("0123456789abcdef") else ""
