"""Readers of what a command prints that leave early, as `head` does: no fault of the command."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

# As a shell reports a program that SIGPIPE (13) ended, which is what other programs do here.
_STATUS = 128 + 13


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """End without a word when nobody reads what is printed any more.

    The signal SIGPIPE itself stays switched off, as Python has it: it would end a process whose
    worker or scheduler closes a socket too.

    Yields:
        Nothing.

    Raises:
        SystemExit: with status 141, as a shell reports a program that SIGPIPE ended.
        BrokenPipeError: if the pipe is another one, of a worker, say.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        left = left_streams()
        if not left:
            raise
        for stream in left:
            _to_nowhere(stream)
        raise SystemExit(_STATUS) from None


def left_streams() -> list[TextIO]:
    """The standard streams that are pipes without a reader.

    Returns:
        The streams; none on a system that cannot say it.
    """
    return [s for s in (sys.stdout, sys.stderr) if s is not None and _is_left(s)]


def _flush() -> None:
    """What is still buffered would be refused when the interpreter ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        # A full disk, say: the interpreter tries again at its end, and tells.
        pass


def _is_left(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):
        return False
    look = select.poll()
    try:
        # Errors are reported without being asked for.
        look.register(stream.fileno(), 0)
    except (OSError, ValueError):
        # Somebody's stand-in, which is no file, or one that is closed.
        return False
    return any(event & select.POLLERR for _, event in look.poll(0))


def _to_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
