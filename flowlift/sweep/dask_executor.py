"""A Dask client's executor that knows whether there are workers: Dask waits for them for ever."""

import concurrent.futures
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..doing import doing
from ..store.rates import duration

# Seconds without workers before a master gives up, where none are named: queues are slow.
PATIENCE = 3600.0
# Seconds between two looks.
_LOOK = 1.0


class WorkersLost(RuntimeError):
    """Raised when cells cannot be computed: their workers or their scheduler are gone."""


class DaskWorkers(concurrent.futures.Executor):
    """The executor of a Dask client."""

    def __init__(self, client: Any, address: str, patience: float):
        """Take a client.

        Args:
            client: the client; whoever made it closes it.
            address: of its scheduler.
            patience: seconds to wait while there are no workers.
        """
        self._client, self._address, self._patience = client, address, patience
        self._inner = client.get_executor()

    @property
    def count(self) -> int:
        """How many cells the cluster's workers compute at once now; at least 1."""
        return max(1, sum(self._threads().values()))

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """As `concurrent.futures.Executor.submit`."""
        return self._inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `concurrent.futures.Executor.shutdown`."""
        self._inner.shutdown(wait=wait and not cancel_futures)

    def await_workers(self, enough: Callable[[], bool]) -> None:
        """Return once a worker is there, at once if there is one; say so while there is none.

        Args:
            enough: whether to return although there is none.

        Raises:
            WorkersLost: if there was none for as long as is waited.
        """
        began, said = time.monotonic(), f"workers at {self._address}"
        if self._there():
            return
        longest = duration(self._patience)
        warnings.warn(f"There are no {said}; cells wait for them, {longest} at most.", stacklevel=2)
        with doing(f"waiting for {said}"):
            while not (self._there() or enough()):
                if time.monotonic() - began >= self._patience:
                    raise WorkersLost(
                        f"There were no {said} for {longest}; start some (`dask worker "
                        f"{self._address}`) and run the same command again: what is finished is "
                        "kept. A longer `patience` waits for a slow queue."
                    )
                time.sleep(_LOOK)

    def _threads(self) -> Mapping[str, int]:
        return self._client.nthreads()

    def _there(self) -> bool:
        """Whether there is a worker; a scheduler that is silent is not this one's affair."""
        try:
            return bool(self._threads())
        except Exception:
            # Whatever it says then: its client drops the cells, which ends the study.
            return True
