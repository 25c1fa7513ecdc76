"""A call of diffrax without its checks at run time, which are host callbacks.

`diffrax.diffeqsolve` compares save times inside of the compiled program, and raises there by a
callback to the host: such a program is not exported, not kept on disk, and on a GPU waits for the
host. `trajectory` has checked the same before, and marks by NaN what it could not know.
"""

import contextlib
import threading
import types
from collections.abc import Iterator
from typing import Any

# diffrax has no argument for it: the name by which its integration calls for checks is replaced,
# for one thread and as long as it traces. Checks in a user's own functions are not its, and stay.
_MODULE, _NAME = "diffrax._integrate", "eqxi"
_LOCK = threading.RLock()


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Trace `diffrax.diffeqsolve` without its own checks, in this thread.

    Where diffrax is built otherwise nothing is changed, and its checks stay.

    Yields:
        Nothing.
    """
    module = _integration()
    original = getattr(module, _NAME, None)
    if module is None or not hasattr(original, "error_if"):
        yield
        return
    with _LOCK:
        setattr(module, _NAME, _Without(original, threading.get_ident()))
        try:
            yield
        finally:
            setattr(module, _NAME, original)


def _integration() -> types.ModuleType | None:
    import importlib

    try:
        return importlib.import_module(_MODULE)
    except ImportError:
        return None


class _Without:
    """What diffrax asks equinox for, but for checks in one thread."""

    def __init__(self, original: Any, thread: int):
        self._original, self._thread = original, thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def error_if(self, x: Any, pred: Any, msg: str, **options: Any) -> Any:
        """`equinox.error_if`, or x where the checks are left out."""
        if threading.get_ident() == self._thread:
            return x
        return self._original.error_if(x, pred, msg, **options)
