"""Where cells are computed: in this process, in spawned ones, or wherever an executor runs.

Nothing heavy is imported here: spawned processes import while their master does.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from .worker import ENVIRONMENT, follow_parent, prepare


class SpawnedWorkers(concurrent.futures.Executor):
    """Worker processes that are spawned, never forked: a fork deadlocks once JAX has started.

    When one of them dies, those beside it end too and all futures in flight fail; the next
    submission finds new processes.
    """

    def __init__(self, count: int):
        """Name their number.

        Args:
            count: number of processes.

        Raises:
            ValueError: if it is below 1.
        """
        if count < 1:
            raise ValueError(f"Argument `workers` must be at least 1, but is {count}; give e.g. 2.")
        self._count = count
        self._pool = self._new()

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """As `concurrent.futures.Executor.submit`, in new processes if the old ones died."""
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            self._pool.shutdown(wait=True)
            self._pool = self._new()
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `concurrent.futures.Executor.shutdown`."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _new(self) -> concurrent.futures.ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(
            self._count, mp_context=context, initializer=follow_parent
        )
        # For them alone: JAX in this process may not have started, and keeps its own settings.
        with _environment({**ENVIRONMENT, "JAX_COMPILATION_CACHE_DIR": str(compilations())}):
            for _ in range(self._count):
                pool.submit(prepare)
        return pool


@contextlib.contextmanager
def spawned_workers(count: int) -> Iterator[SpawnedWorkers]:
    """Worker processes that share a cache of compilations, for `run_study(executor=...)`.

    Args:
        count: number of processes.

    Yields:
        The executor. If the block is left by an exception, cells that wait are cancelled.

    Raises:
        ValueError: if `count` is below 1.
    """
    workers = SpawnedWorkers(count)
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def compilations() -> Path:
    """The folder where workers of this user keep compilations."""
    return Path(tempfile.gettempdir()) / f"flowlift-compilations-{os.getuid()}"


@contextlib.contextmanager
def dask_workers(address: str) -> Iterator[concurrent.futures.Executor]:
    """The workers of a Dask cluster, for `run_study(executor=...)`.

    They must see the folder of results under the same path and have flowlift installed. SLURM, PBS
    and Kubernetes come through Dask's own deployers, whose clusters have an address too.

    Args:
        address: of the scheduler, such as tcp://host:8786.

    Yields:
        The executor that the cluster's client offers.

    Raises:
        ImportError: if the extra `dask` is not installed.
        ValueError: if no scheduler answers.
    """
    try:
        from distributed import Client  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            "Running on Dask needs the package distributed; pip install 'flowlift[dask]'."
        ) from None
    try:
        client = Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Argument `dask` must be the address of a running scheduler, but {address!r} gave no "
            f"answer ({error}); start `dask scheduler` and give what it prints."
        ) from None
    with client:
        yield client.get_executor()


def executor_of(
    workers: int, dask: str | None = None
) -> contextlib.AbstractContextManager[concurrent.futures.Executor | None]:
    """The executor that a command line asks for.

    Args:
        workers: number of processes to spawn; 0 for none.
        dask: the address of a Dask scheduler instead.

    Returns:
        A context of the executor, of None to compute in this process.

    Raises:
        ValueError: if both are given.
    """
    if dask and workers:
        raise ValueError(
            f"Argument `workers` must be left out with `dask`, but is {workers}; the cluster has "
            "its own."
        )
    if dask:
        return dask_workers(dask)
    return spawned_workers(workers) if workers else contextlib.nullcontext()


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
