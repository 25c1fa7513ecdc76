"""What `flowlift doctor` prints: versions, devices, where compilations are kept, what is there."""

import contextlib
import importlib.metadata
import logging
import platform
from collections import Counter
from collections.abc import Iterator

import jax

from ..compilations import BOUND, SETTING, Place, contents, keep_compilations
from ..flow import solve
from ..lift import FixedInDegree, sample
from ..modules import mlp
from ..tasks import periodic

_PACKAGES = ("flowlift", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "numpy", "scipy")
# JAX says there what it did with each program, by its name.
_LOGGERS = ("jax._src.compiler", "jax._src.compilation_cache")


def report() -> Iterator[str]:
    """What this machine runs with, and what a small flow finds among the kept compilations.

    Yields:
        Lines, each as soon as it is known.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    yield f"versions   Python {platform.python_version()}, {', '.join(versions)}"
    place = keep_compilations()
    devices = Counter(f"{d.platform} ({d.device_kind})" for d in jax.devices())
    yield "devices    " + ", ".join(f"{count} {name}" for name, count in devices.items())
    yield from _place(place)
    yield "a small flow, by its programs:"
    yield from _of_a_flow()


def _place(place: Place) -> Iterator[str]:
    if place.root is None:
        yield f"kept       nothing by flowlift: {place.why}"
        return
    held = contents(place.root)
    yield f"kept       in {place.folder}, {place.why}; may be deleted"
    yield (
        f"           {held.programs} programs of {held.bytes / 1e6:.3g} MB, of all machines and "
        f"versions; bound {BOUND / 1e6:.3g} MB; {SETTING}=off keeps none"
    )


def _of_a_flow() -> Iterator[str]:
    with _heard() as said:
        lift = sample(mlp(inputs=2, depth=1), copies=4, edges=FixedInDegree(2), seed=0)
        solution = solve(lift, periodic({1: 1.0}, samples=8), horizon=1.0)
    hits = [name for name, what in said if what == _HIT]
    missed = Counter(name for name, what in said if what == _MISS)
    reasons = {name: what for name, what in said if what not in (_HIT, _MISS)}
    for name, count in sorted(missed.items()):
        why = reasons.get(name, "compiled for the first time on this machine, and kept")
        yield f"  miss     {name}{'' if count == 1 else f' (x {count})'}: {why}"
    total = len(hits) + missed.total()
    yield f"hits       {len(hits)} of {total} programs were read, {missed.total()} compiled"
    yield f"flow       {solution.solver}: {solution.result.value} at t = {solution.time:g}"


_HIT, _MISS = "hit", "miss"


@contextlib.contextmanager
def _heard() -> Iterator[list[tuple[str, str]]]:
    """What JAX says of programs while the context is open: (name, hit, miss or a reason)."""
    said, handler = [], logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        text = record.getMessage()
        name = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        if "cache hit for" in text.lower():
            said.append((name, _HIT))
        elif "cache miss for" in text.lower():
            said.append((name, _MISS))
        elif text.startswith("Not writing") and "because" in text:
            said.append((name, text.partition("because ")[2]))

    handler.emit = emit
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        # Whoever listens to all of JAX did not ask for its details.
        logger.propagate = False
    try:
        yield said
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
