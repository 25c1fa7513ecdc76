"""Names that a locale cannot spell: as paths, and on terminals.

Under LC_ALL=C, Python spells paths and prints in ASCII alone. Texts of ours are UTF-8 whatever the
locale, and so are the names that they give to files.
"""

import codecs
import io
import os
import sys
from pathlib import Path
from typing import TextIO

# How a stream treats letters that it has not: see `refuse_nothing`.
AS_FAR_AS_POSSIBLE = "flowlift.bytes_or_escapes"


def path_of(name: str) -> Path:
    """The path that a text names: in the locale's letters where it has them all, else in UTF-8.

    Args:
        name: from a study, say; or from the command line, as Python spells it.

    Returns:
        A path that the system takes.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return Path(os.fsdecode(name.encode("utf-8", "surrogateescape")))
    return Path(name)


def text_of(word: str) -> str:
    """What a word of the command line or of a path says, where the locale could not read it.

    Args:
        word: as Python spells it.

    Returns:
        The word; bytes that the locale does not know are read as UTF-8.
    """
    if not any(map(_is_byte, word)):
        return word
    return os.fsencode(word).decode("utf-8", "surrogateescape")


def spelt(path: str) -> str:
    """What compiled code may say of its file: JAX takes no other letters than the locale's.

    Args:
        path: the file's.

    Returns:
        The path, with escapes for what the locale cannot spell.
    """
    return path.encode(sys.getfilesystemencoding(), "backslashreplace").decode()


def printable(text: str, stream: TextIO) -> str:
    """A text in letters that a stream has.

    Args:
        text: the text.
        stream: where it is printed.

    Returns:
        The text, with Python's escapes for what would be refused.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(stream, "errors", None) or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def refuse_nothing(stream: TextIO, errors: str | None = AS_FAR_AS_POSSIBLE) -> str | None:
    """Let a stream of this process print any text: escapes stand for letters that it has not.

    Bytes of paths that the locale does not know are printed as they are.

    Args:
        stream: standard output, say; one that another program has put in its place stays as it is.
        errors: how it treats such letters from now on.

    Returns:
        How it treated them before.
    """
    before = getattr(stream, "errors", None)
    if errors is not None and isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)
    return before


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    handler = "surrogateescape" if _is_byte(letter) else "backslashreplace"
    return letter.encode("ascii", handler), error.start + 1


def _is_byte(letter: str) -> bool:
    """Whether it stands for a byte of a path that the locale does not know (PEP 383)."""
    return "\udc80" <= letter <= "\udcff"


codecs.register_error(AS_FAR_AS_POSSIBLE, _bytes_or_escapes)
