"""Where cells are computed: in this process, in spawned ones, or wherever an executor runs.

Nothing heavy is imported here: spawned processes import while their master does.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ..memory import in_gigabytes, machine_memory
from .dask_executor import PATIENCE, DaskWorkers
from .worker import ENVIRONMENT, follow_parent, prepare

# More workers than this for each core only wait for one another; the factor leaves room for
# machines that report fewer cores than they have.
WORKERS_PER_CORE = 4
# What a worker takes at least: Python, JAX and compiled code, as measured after a small flow.
_WORKER_BYTES = 500_000_000
# Seconds that workers have to write what they finished, once they are told to end.
_GRACE = 5.0


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
            ValueError: if it is no integer of at least 1, above `WORKERS_PER_CORE` for each core,
                or above what the memory holds.
        """
        _check_count(count)
        self._count = count
        self._pool = self._new()

    @property
    def count(self) -> int:
        """Number of processes."""
        return self._count

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

    def stop(self) -> None:
        """End the processes: at once where nothing runs, else once what is finished is written.

        What takes longer than five seconds to come to an end, such as a compilation, is killed:
        no file is torn by that, and running flows have left checkpoints.
        """
        with _deaf_to_interrupts():
            # The executor of this Python has no public way to its processes.
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            last = time.monotonic() + _GRACE
            for process in processes:
                process.join(max(0.0, last - time.monotonic()))
                process.kill()

    def _new(self) -> concurrent.futures.ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(
            self._count, mp_context=context, initializer=follow_parent
        )
        # For them alone: JAX in this process may not have started, and keeps its own settings.
        with _environment(ENVIRONMENT):
            for _ in range(self._count):
                pool.submit(prepare)
        return pool


@contextlib.contextmanager
def spawned_workers(count: int) -> Iterator[SpawnedWorkers]:
    """Worker processes, which keep compilations where this one does, for `run_study(executor=...)`.

    Args:
        count: number of processes.

    Yields:
        The executor. If the block is left by an exception, Ctrl-C among them, cells that wait are
        cancelled, runs that are finished are written, and the processes end.

    Raises:
        ValueError: for a number that `SpawnedWorkers` refuses.
    """
    workers = SpawnedWorkers(count)
    try:
        yield workers
    except BaseException:
        workers.stop()
        raise
    workers.shutdown(cancel_futures=True)


@contextlib.contextmanager
def dask_workers(
    address: str, *, patience: float = PATIENCE
) -> Iterator[concurrent.futures.Executor]:
    """The workers of a Dask cluster, for `run_study(executor=...)`.

    They must see the folder of results under the same path and have flowlift installed. SLURM, PBS
    and Kubernetes come through Dask's own deployers, whose clusters have an address too.

    Args:
        address: of the scheduler, such as tcp://host:8786.
        patience: seconds that cells wait while the scheduler has no workers, as when a queue is
            slow or all have died; after them comes `WorkersLost`. math.inf waits for ever.

    Yields:
        The executor that the cluster's client offers.

    Raises:
        ImportError: if the extra `dask` is not installed.
        ValueError: if no scheduler answers, or for a time that is not positive.
    """
    if not patience > 0:
        raise ValueError(
            "Argument `patience` must be a positive number of seconds to wait for workers, but is "
            f"{patience!r}; give e.g. 600."
        )
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
        yield DaskWorkers(client, address, patience)


def executor_of(
    workers: int, dask: str | None = None, patience: float | None = None
) -> contextlib.AbstractContextManager[concurrent.futures.Executor | None]:
    """The executor that a command line asks for.

    Args:
        workers: number of processes to spawn; 0 for none.
        dask: the address of a Dask scheduler instead.
        patience: with it, as for `dask_workers`.

    Returns:
        A context of the executor, of None to compute in this process.

    Raises:
        ValueError: if both are given, the number is negative, or there is patience without Dask.
    """
    if workers < 0:
        raise ValueError(
            "Argument `workers` must be a number of processes, or 0 to compute in this one, but is "
            f"{workers}; give e.g. 2."
        )
    if dask and workers:
        raise ValueError(
            f"Argument `workers` must be left out with `dask`, but is {workers}; the cluster has "
            "its own."
        )
    if patience is not None and not dask:
        raise ValueError(
            "Argument `patience` must be given with `dask` alone, whose workers are waited for, "
            f"but is {patience}; leave it out."
        )
    if dask:
        return dask_workers(dask, patience=PATIENCE if patience is None else patience)
    return spawned_workers(workers) if workers else contextlib.nullcontext()


def count_of(executor: concurrent.futures.Executor) -> int:
    """How many cells an executor computes at once, as far as it says.

    Args:
        executor: the executor.

    Returns:
        The number of its workers; 1 where it does not say, or has none now.
    """
    known = isinstance(executor, SpawnedWorkers | DaskWorkers)
    # The pools of the standard library keep it to themselves.
    return executor.count if known else getattr(executor, "_max_workers", 1)


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(
            f"Argument `workers` must be an integer of at least 1, but is {count!r}; give e.g. 2."
        )
    cores = os.cpu_count() or 1
    if count > WORKERS_PER_CORE * cores:
        raise ValueError(
            f"Argument `workers` must be at most {WORKERS_PER_CORE * cores}, {WORKERS_PER_CORE} "
            f"for each core of this machine, but is {count}; give {cores}."
        )
    if count * _WORKER_BYTES > machine_memory():
        raise ValueError(
            f"Argument `workers` must fit into this machine's memory of "
            f"{in_gigabytes(machine_memory())}, but {count} take at least "
            f"{in_gigabytes(count * _WORKER_BYTES)}; lower it."
        )


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A second Ctrl-C while workers end changes nothing; only a main thread can be deaf."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
