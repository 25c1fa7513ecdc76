"""Where cells are computed: in this process, in spawned ones, or wherever an executor runs."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# Before JAX starts in a worker. Two BLAS thread pools on the same cores slow one another down
# thirtyfold; equinox's error checks are host callbacks, without which JAX can store compilations.
ENVIRONMENT = {
    "JAX_ENABLE_X64": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "EQX_ON_ERROR": "nan",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@contextlib.contextmanager
def spawned_workers(count: int) -> Iterator[concurrent.futures.Executor]:
    """Worker processes that share a cache of compilations, for `run_study(executor=...)`.

    They are spawned, never forked: a fork deadlocks once JAX has started.

    Args:
        count: number of processes.

    Yields:
        The executor.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"Argument `workers` must be at least 1, but is {count}; give e.g. 2.")
    context = multiprocessing.get_context("spawn")
    cache = Path(tempfile.gettempdir()) / f"flowlift-compilations-{os.getuid()}"
    with (
        _environment({**ENVIRONMENT, "JAX_COMPILATION_CACHE_DIR": str(cache)}),
        concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as executor,
    ):
        yield executor


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
