"""What is being done, said by whoever does it, and shown where somebody waits.

Long pieces of work say their names by `doing`, which prints nothing. Where somebody waits, as at
the command line, `shown` makes a bar of them on a terminal; into a pipe it writes a line when
nothing was said for ten seconds, then after longer and longer silences.
"""

import contextlib
import dataclasses
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from .spelling import printable, refuse_nothing

_OURS = os.path.dirname(__file__)
# Seconds of silence before the first line, and at most between two.
_FIRST, _MOST = 10.0, 60.0
# Seconds before a bar: what is quick needs none. And between two looks.
_BAR_AFTER, _LOOK = 1.0, 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """A piece of work that goes on.

    Attributes:
        name: what it is, to stand in a line.
        done: how many pieces of its kind are done.
        of: of how many; 0 where nobody counts.
        shows_itself: whether it has a bar of its own.
        since: when it began, by `time.monotonic`.
    """

    name: str
    done: int
    of: int
    shows_itself: bool
    since: float


_PIECES: list[Piece] = []
_ACTIVE: list["Shown"] = []


@contextlib.contextmanager
def doing(name: str, done: int = 0, of: int = 0, *, shows_itself: bool = False) -> Iterator[None]:
    """Say what is being done while the context is open.

    Args:
        name: what it is, to stand in a line.
        done: how many pieces of its kind are done.
        of: of how many; 0 where nobody counts.
        shows_itself: whether it has a bar of its own, so that no other is drawn.

    Yields:
        Nothing.
    """
    piece = Piece(name, done, of, shows_itself, time.monotonic())
    _PIECES.append(piece)
    try:
        yield
    finally:
        _PIECES.remove(piece)


def say(text: str) -> None:
    """Print a line to standard output, above whatever bar there is: the silence begins anew.

    Args:
        text: the line.
    """
    for shown in _ACTIVE:
        shown.clear()
    print(printable(text, sys.stdout), flush=True)
    for shown in _ACTIVE:
        shown.heard()


@contextlib.contextmanager
def clean_streams() -> Iterator[None]:
    """What a program prints while the context is open: any letter, and warnings of one line.

    Yields:
        Nothing.
    """
    before, streams = warnings.formatwarning, (sys.stdout, sys.stderr)
    errors = [refuse_nothing(stream) for stream in streams]
    warnings.formatwarning = _in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = before
        for stream, old in zip(streams, errors, strict=True):
            refuse_nothing(stream, old)


def one_line_warnings() -> None:
    """Let this process print each warning as one line, without the source that warned."""
    warnings.formatwarning = _in_one_line


def _in_one_line(message, category, filename, lineno, line=None) -> str:
    """What the standard library calls with these arguments, to format a warning."""
    for shown in _ACTIVE:
        shown.clear()
    text = " ".join(str(message).split())
    if filename.startswith(_OURS):
        return f"flowlift: {text}\n"
    # Of another package, or of a study's own code: whoever mends it needs the place.
    return f"flowlift: {category.__name__}: {text} ({filename}, line {lineno})\n"


class Shown:
    """Shows what is being done, as a context: see `shown`."""

    def __init__(self, title: str, stream: TextIO, looks: float = _LOOK, first: float = _FIRST):
        """Name what is shown, and where.

        Args:
            title: what goes on where nothing else is said.
            stream: where to.
            looks: seconds between two looks.
            first: seconds of silence before the first line.
        """
        self._title, self._stream, self._looks, self._first = title, stream, looks, first
        self._terminal = stream.isatty()
        self._begun = time.monotonic()
        self._bar: Any = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.heard()

    def __enter__(self) -> "Shown":
        _ACTIVE.append(self)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        self._thread.join()
        _ACTIVE.remove(self)
        self.clear()

    def heard(self) -> None:
        """Something was printed just now."""
        self._last, self._pause = time.monotonic(), self._first

    def clear(self) -> None:
        """Take the bar from the terminal; it is drawn again at the next look."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def _watch(self) -> None:
        while not self._ended.wait(self._looks):
            pieces = list(_PIECES)
            if self._terminal and any(piece.shows_itself for piece in pieces):
                self.clear()
            elif self._terminal:
                self._draw(pieces)
            elif time.monotonic() - self._last >= self._pause:
                self._write(pieces)

    def _write(self, pieces: list[Piece]) -> None:
        counted = next((piece for piece in reversed(pieces) if piece.of), None)
        count = f"{counted.done} of {counted.of} done, " if counted else ""
        since = pieces[-1].since if pieces else self._begun
        line = f"... {count}{_words(pieces) or self._title}: {time.monotonic() - since:.0f} s"
        # Whoever reads the pipe may be gone; the work goes on.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._stream, flush=True)
        self._last, self._pause = time.monotonic(), min(2 * self._pause, _MOST)

    def _draw(self, pieces: list[Piece]) -> None:
        if time.monotonic() - self._begun < _BAR_AFTER:
            return
        from tqdm import tqdm

        counted = next((piece for piece in reversed(pieces) if piece.of), None)
        with self._lock:
            if self._bar is None:
                self._bar = tqdm(file=self._stream, leave=False, total=1)
                self._bar.start_t -= time.monotonic() - self._begun
            whole = "{l_bar}{bar}| {n_fmt} of {total_fmt} done, " if counted else ""
            self._bar.bar_format = whole + "{elapsed}{postfix}"
            self._bar.total, self._bar.n = (counted.of, counted.done) if counted else (1, 0)
            self._bar.set_postfix_str(_words(pieces) or self._title)


def shown(title: str, stream: TextIO | None = None) -> contextlib.AbstractContextManager:
    """Show what is being done while the context is open, unless that is shown already.

    Args:
        title: what goes on where nothing else is said.
        stream: where to; standard error if None.

    Returns:
        The context.
    """
    return contextlib.nullcontext() if _ACTIVE else Shown(title, stream or sys.stderr)


def _words(pieces: list[Piece]) -> str:
    return ", ".join(piece.name for piece in pieces)
