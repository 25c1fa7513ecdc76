"""What a worker process imports first: it settles the environment before JAX starts.

A pool or a cluster sends the name of `compute` and plain values, so that nothing heavy is imported
by receiving them.
"""

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..doing import one_line_warnings

# Before JAX starts in a worker. Two BLAS thread pools on the same cores slow one another down
# thirtyfold.
ENVIRONMENT = {"JAX_ENABLE_X64": "1", "OPENBLAS_NUM_THREADS": "1"}


def compute(
    study: str,
    cell: Mapping[str, Any],
    directory: str,
    manner: Mapping[str, Any],
    texts: Collection[str] = (),
) -> bool:
    """Compute a cell and store it.

    Args:
        study: the study as TOML text.
        cell: fields of the cell.
        directory: the folder of results, as seen by the worker.
        manner: fields of `Manner`.
        texts: the sources of the study.

    Returns:
        False if the cell was left to another live writer.

    Raises:
        KeyboardInterrupt: if this worker was told to end.
    """
    if _TOLD_TO_END:
        raise KeyboardInterrupt
    if "jax" not in sys.modules:
        os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
    from .work import compute_described

    with _busy(), contextlib.nullcontext() if _PINNED else _one_blas_thread():
        return compute_described(study, cell, directory, manner, texts)


def prepare() -> None:
    """Import what a cell needs, while the master still plans the work."""
    importlib.import_module("flowlift.sweep.work")


def follow_parent() -> None:
    """End this process when its parent does: a pool whose master was killed would wait for ever.

    Ctrl-C reaches the whole group of processes, but the master alone heeds it, and says to its
    workers by SIGTERM when to end: they write what they finished first.
    """
    one_line_warnings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


# Signals by which this worker was told to end: at most one is heeded.
_TOLD_TO_END: list[int] = []


# The cell that is being computed: at most one.
_BUSY: list[bool] = []


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    _BUSY.append(True)
    try:
        yield
    finally:
        _BUSY.clear()


def _end(number: int, _) -> None:
    _TOLD_TO_END.append(number)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _BUSY:
        # Nothing is lost; the queue that it waits at would print a traceback of an exception.
        os._exit(1)
    raise KeyboardInterrupt


def _follow(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


# A Dask worker, or a thread of the user's own process, started without the setting.
_PINNED = os.environ.get("OPENBLAS_NUM_THREADS") == "1"


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield
