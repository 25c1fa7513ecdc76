"""Ctrl-C that is not lost: an exception may be, inside of a callback of the interpreter's own."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """Remember Ctrl-C while the context is open; it raises KeyboardInterrupt as ever.

    Python drops an exception that is raised while it clears a weak reference, which JAX has it do
    all the time; whoever asks afterwards knows of it. A handler of somebody else's, and threads
    other than the main one, are left alone.

    Yields:
        A function that says whether it came.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield _never
        return
    came: list[int] = []

    def note(number: int, frame) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def obey(asked: Callable[[], bool]) -> None:
    """Raise what was dropped.

    Args:
        asked: whether Ctrl-C came.

    Raises:
        KeyboardInterrupt: if it did.
    """
    if asked():
        raise KeyboardInterrupt


def _never() -> bool:
    return False
