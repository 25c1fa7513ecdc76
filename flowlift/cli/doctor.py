"""What `flowlift doctor` prints: versions, devices, where compilations are kept, what is there."""

import contextlib
import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax

from ..compilations import BOUND, SETTING, Place, contents, keep_compilations, started
from ..flow import FlowSolution, solve
from ..kernels.measured import measured, path_of
from ..lift import FixedInDegree, sample
from ..modules import mlp
from ..tasks import periodic

_PACKAGES = ("flowlift", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "numpy", "scipy")
# JAX says there what it did with each program, by its name.
_LOGGERS = ("jax._src.compiler", "jax._src.compilation_cache")


def report(environment: Mapping[str, str]) -> Iterator[str]:
    """What this machine runs with, and what a small flow finds among the kept compilations.

    Args:
        environment: that of the user, before this process made settings of its own.

    Yields:
        Lines, each as soon as it is known.

    Raises:
        ValueError: if JAX has no device.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    yield f"versions   Python {platform.python_version()}, {', '.join(versions)}"
    place = keep_compilations()
    devices = Counter(f"{d.platform} ({d.device_kind})" for d in started())
    yield "devices    " + ", ".join(f"{count} {name}" for name, count in devices.items())
    yield from _numbers(environment)
    yield from _threads(environment)
    yield from pages(environment)
    yield from _choices()
    yield from _place(place)
    yield "a small flow, by its programs:"
    yield from _of_a_flow()
    yield from _of_another_process()


def _numbers(environment: Mapping[str, str]) -> Iterator[str]:
    said = environment.get("JAX_ENABLE_X64", "").lower() in _TRUE
    change = "" if said else "; in scripts it is off, where float64 wants JAX_ENABLE_X64=1"
    yield f"numbers    x64 on in commands{change}"
    default = jax.config.jax_default_matmul_precision  # pyright: ignore
    yield f"products   of flows in 'highest' precision (no TF32); JAX's own default is {default!r}"


def _threads(environment: Mapping[str, str]) -> Iterator[str]:
    import threadpoolctl

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pools = {
        f"{p['internal_api']} {p['num_threads']}"
        for p in threadpoolctl.threadpool_info()
        if p["user_api"] == "blas"
    }
    said = ", ".join(sorted(pools)) or "none loaded"
    change = "" if environment.get("OPENBLAS_NUM_THREADS") == "1" else _ONE_THREAD
    yield f"threads    {cores} cores for this process; BLAS: {said}{change}"


def _choices() -> Iterator[str]:
    found, kind = measured(), jax.devices()[0].device_kind
    if found is None:
        yield "choices    of kernels by the table of CPUs; ensembles one by one"
        return
    yield (
        f"choices    timed on this {kind}: {found.sparse} sums, dense up to {found.dense_gain:.3g} "
        f"pairs an edge, {found.batch} flows side by side; kept in {path_of(kind)}"
    )


# As JAX reads its own settings.
_TRUE = ("y", "yes", "t", "true", "on", "1")
# Where Linux says who gets pages of 2 MB, the choice in brackets: always [madvise] never.
_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_LARGE_PAGES = "glibc.malloc.hugetlb=1"


def pages(environment: Mapping[str, str], enabled: Path = _PAGES) -> Iterator[str]:
    """Whether large arrays get pages of 2 MB, where a process has to ask for them.

    Args:
        environment: what the process was started with.
        enabled: the kernel's file; where there is none, or it says anything but madvise, asking
            changes nothing.

    Yields:
        One line, or none.
    """
    try:
        said = enabled.read_text()
    except OSError:
        return
    if "[madvise]" not in said:
        return
    if _LARGE_PAGES in environment.get("GLIBC_TUNABLES", "").split(":"):
        yield f"pages      of 2 MB, by GLIBC_TUNABLES={_LARGE_PAGES}"
        return
    yield f"pages      of 4 KB; {_GAIN}: set GLIBC_TUNABLES={_LARGE_PAGES} before Python starts"


# Measured, see docs/benchmarks.md, "Large flows and instruments"; smaller arrays fill no such page.
_GAIN = (
    "2 MB would save 9 to 18% of a gradient of a million edges, 28 to 36% of a pull of ten million"
)


_ONE_THREAD = "; with several workers of your own set OPENBLAS_NUM_THREADS=1 (sweeps do)"


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
        solution = _small_flow()
    hits = [name for name, what in said if what == _HIT]
    missed = Counter(name for name, what in said if what == _MISS)
    reasons = {name: what for name, what in said if what not in (_HIT, _MISS)}
    compiled = "compiled, " + ("for the first time here" if _are_kept() else "and not kept")
    for name, count in sorted(missed.items()):
        why = reasons.get(name, compiled)
        yield f"  miss     {name}{'' if count == 1 else f' (x {count})'}: {why}"
    total = len(hits) + missed.total()
    yield f"hits       {len(hits)} of {total} programs were read, {missed.total()} compiled"
    yield f"flow       {solution.solver}: {solution.result.value} at t = {solution.time:g}"


def _are_kept() -> bool:
    """Whether JAX has a folder for what it compiles, and can write there."""
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    on = jax.config.jax_enable_compilation_cache and bool(folder)  # pyright: ignore
    return on and ("://" in str(folder) or os.access(str(folder), os.W_OK | os.X_OK))


def _of_another_process() -> Iterator[str]:
    """Whether a second process reads what this one compiled."""
    said = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as doctor; print(doctor.found())"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_ENABLE_X64": str(int(jax.config.jax_enable_x64))},  # pyright: ignore
    )
    if said.returncode:
        last = (said.stderr.strip().splitlines() or ["nothing was said"])[-1]
        yield f"again      a second process failed: {last}"
        return
    hits, total = map(int, said.stdout.split()[-2:])
    change = "" if hits == total and _are_kept() else _change()
    yield f"again      a second process read {hits} of {total} programs{change}"


def _change() -> str:
    """What keeps more programs."""
    if not _are_kept():
        return "; nothing is kept, see above"
    least = jax.config.jax_persistent_cache_min_compile_time_secs  # pyright: ignore
    if least:
        return f"; JAX's own setting keeps none that compile in less than {least:g} s"
    return f"; see the folder above, or set {SETTING} to another"


def found() -> str:
    """Run a small flow; how many of its programs were read, and how many there are.

    Returns:
        Two numbers.
    """
    keep_compilations()
    with _heard() as said:
        _small_flow()
    hits = sum(what == _HIT for _, what in said)
    return f"{hits} {hits + sum(what == _MISS for _, what in said)}"


def _small_flow() -> FlowSolution:
    lift = sample(mlp(inputs=2, depth=1), copies=4, edges=FixedInDegree(2), seed=0)
    precision = "float64" if jax.config.jax_enable_x64 else "float32"  # pyright: ignore
    return solve(lift, periodic({1: 1.0}, samples=8), horizon=1.0, precision=precision)


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
