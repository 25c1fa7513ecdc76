"""What is fastest on a device that has no table: timed once, kept for the device's kind.

Thresholds of CPUs are a table in `choice`. Elsewhere the first use times a handful of small
gradients (some seconds, most of them compiling) and keeps what it found in the user's cache folder;
`flowlift doctor` shows it, and deleting the file times anew.
"""

import dataclasses
import functools
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowlift.kernels.fibre import Fibre
from flowlift.kernels.trilinear import push

# A fibre that does some work and compiles fast; members of an ensemble are smaller.
_COPIES, _DEGREE, _COLUMNS, _MEMBER = 1024, 8, 64, 32
_WIDTHS = (16, 64, 256, 1024)
# A wider batch has to save so much of the time of a member; its flows wait for one another.
_WORTH = 0.8
_REPEATS = 5
# "off", or a folder, as for compilations.
_SETTING = "FLOWLIFT_CACHE"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was timed on a device.

    Attributes:
        sparse: the faster sparse method, "padded" or "naive".
        dense_gain: a dense product is as fast up to so many pairs for each edge.
        batch: flows side by side, from which on more of them gain little.
    """

    sparse: str
    dense_gain: float
    batch: int


def measured(platform: str | None = None) -> Measured | None:
    """What was timed on JAX's default device, now if it was not before.

    Args:
        platform: which platform is asked about; None: that of the default device.

    Returns:
        What was found; None on a CPU, which has a table, or where another platform is asked about
        than there is.
    """
    here = jax.devices()[0].platform
    asked = here if platform is None else platform
    return None if here == "cpu" or asked not in (here, jax.default_backend()) else _known()


@functools.cache
def _known() -> Measured:
    path = path_of(jax.devices()[0].device_kind)
    known = None if path is None else read(path)
    if known is None:
        # A thread of its own: whoever asks may be tracing.
        found: list[Measured] = []
        thread = threading.Thread(target=lambda: found.append(timed()))
        thread.start()
        thread.join()
        known = found[0] if found else Measured("padded", 4.0, _WIDTHS[0])
        if found and path is not None:
            write(path, known)
    return known


def path_of(kind: str) -> Path | None:
    """The file of a device's kind.

    Args:
        kind: JAX's name of it.

    Returns:
        The file; None where nothing is to be kept.
    """
    said = os.environ.get(_SETTING, "")
    if said.lower() in ("off", "0"):
        return None
    import platformdirs

    root = Path(said).expanduser() if said else platformdirs.user_cache_path("flowlift")
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{kind} jax {jax.__version__}")
    return root / "measured" / f"{name}.json"


def read(path: Path) -> Measured | None:
    """What a file says.

    Args:
        path: the file.

    Returns:
        It; None where there is none, or none of ours.
    """
    try:
        found = json.loads(path.read_text())
        known = Measured(str(found["sparse"]), float(found["dense_gain"]), int(found["batch"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = known.sparse in ("padded", "naive") and known.dense_gain > 0 and known.batch >= 1
    return known if sound else None


def write(path: Path, found: Measured) -> None:
    """Keep what was found; where that cannot be, the next process times anew.

    Args:
        path: the file.
        found: what.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(dataclasses.asdict(found), file)
        os.replace(file.name, path)
    except OSError:
        return


def timed(
    copies: int = _COPIES, columns: int = _COLUMNS, widths: tuple[int, ...] = _WIDTHS
) -> Measured:
    """Time gradients of one fibre by each method, and of several members side by side.

    Args:
        copies: of a source and a target.
        columns: of the activations.
        widths: of ensembles, increasing.

    Returns:
        What is fastest.
    """
    by_method = {m: _seconds(*_gradient(m, copies, columns)) for m in ("padded", "naive", "dense")}
    sparse = min(("padded", "naive"), key=lambda method: by_method[method])
    # Time of a dense product goes with pairs, of a sparse one with edges.
    gain = by_method[sparse] / (copies * _DEGREE) / (by_method["dense"] / copies**2)
    batch, before = 1, float("inf")
    for width in widths:
        each = _seconds(*_members(sparse, width)) / width
        if each > _WORTH * before:
            break
        batch, before = width, each
    return Measured(sparse, gain, batch)


def _gradient(method: str, copies: int, columns: int) -> tuple[Callable, tuple[Any, ...]]:
    def total(fibre: Fibre, w: Any, y: Any) -> Any:
        return jnp.sum(jnp.sin(push(fibre, w, y, method)))

    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.standard_normal(copies * _DEGREE), jnp.float32)
    y = jnp.asarray(rng.standard_normal((copies, columns)), jnp.float32)
    return jax.grad(total, (1, 2)), (_fibre(copies), w, y)


def _members(method: str, width: int) -> tuple[Callable, tuple[Any, ...]]:
    one, given = _gradient(method, _MEMBER, _COLUMNS)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * width), given)
    return jax.vmap(one), many


def _fibre(copies: int) -> Fibre:
    rng = np.random.default_rng(1)
    rows = [rng.choice(copies, _DEGREE, replace=False) for _ in range(copies)]
    targets = np.repeat(np.arange(copies), _DEGREE)
    return Fibre.build(np.concatenate(rows), targets, copies, copies, regular=_DEGREE)[0]


def _seconds(function: Callable, given: tuple[Any, ...]) -> float:
    """The least time of a few calls, compiled before."""
    run = jax.jit(function)
    jax.block_until_ready(run(*given))
    times = []
    for _ in range(_REPEATS):
        clock = time.perf_counter()
        jax.block_until_ready(run(*given))
        times.append(time.perf_counter() - clock)
    return min(times)
