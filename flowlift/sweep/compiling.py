"""How long this process traced and compiled: it is the price of a shape, not of a run."""

import time
from typing import Any

import jax

# JAX announces the end of each tracing, lowering and compilation, with its duration; a compilation
# that comes from the cache on disk counts with the time of loading it.
_EVENTS = "/jax/core/compile/"
_SPANS: list[tuple[float, float]] = []


def compiling_seconds() -> float:
    """Seconds that this process traced and compiled since this file was imported.

    Traces lie within one another; what they cover together counts once.

    Returns:
        The seconds, of all threads; differences tell what happened in between.
    """
    return sum(end - start for start, end in _SPANS)


def _hear(event: str, duration_secs: float, **_: Any) -> None:
    if event.startswith(_EVENTS):
        end = time.perf_counter()
        # Spans that this one covers ended before it, and are the last ones.
        while _SPANS and _SPANS[-1][0] >= end - duration_secs:
            _SPANS.pop()
        _SPANS.append((end - duration_secs, end))


jax.monitoring.register_event_duration_secs_listener(_hear)
