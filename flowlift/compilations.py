"""Compiled programs are kept on disk: what one process compiled, the next one reads.

JAX has a persistent cache of compilations, which is off unless it has a folder. flowlift gives it
one before it first compiles something, where the user said nothing; from then on all that the
process compiles is kept. Reading a compiled program is running code: a folder that others could
write into is not used.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import platform
import stat
import threading
import time
import warnings
from pathlib import Path
from typing import Any

# A folder, or "off".
SETTING = "FLOWLIFT_CACHE"
# Programs of one shape of a flow take 0.3 to 3 MB: room for some hundred shapes, and for so few
# files (10 kB on average) that a look at all of them stays below a second.
BOUND = 1 << 29
# What is left after a clearing, so that not every one has something to do.
_LEFT = 3 / 4
# Seconds between two clearings: a process that begins should not look at 50,000 files.
_BETWEEN = 3600.0
_CLEARED = ".cleared"
_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where compilations are kept.

    Attributes:
        folder: the folder for this machine and these versions; None where flowlift keeps none.
        why: a sentence without a full stop: whose choice it is, or what is wrong.
        wrong: whether something is wrong, which the user should know.
    """

    folder: Path | None
    why: str
    wrong: bool = False

    @property
    def root(self) -> Path | None:
        """The folder of all machines and versions, on which the bound is."""
        return None if self.folder is None else self.folder.parent


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a folder of compilations holds.

    Attributes:
        programs: number of files.
        bytes: their size.
    """

    programs: int
    bytes: int


def keep_compilations() -> Place:
    """Let JAX keep what it compiles from now on, unless the user decided otherwise.

    Acts once in a process. JAX's own settings, by its environment variables or `jax.config`, are
    left alone: the folder, whether there is a cache, and, where they are not JAX's defaults, from
    which compile time and size on a program is kept.

    Returns:
        Where they are kept. What is wrong with the folder is warned of, once.
    """
    with _LOCK:
        return _kept()


@functools.cache
def _kept() -> Place:
    import jax

    asked = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if asked is not None:
        return Place(None, f"JAX's own setting names the folder {asked}")
    if not jax.config.jax_enable_compilation_cache:  # pyright: ignore
        return Place(None, "JAX's own setting JAX_ENABLE_COMPILATION_CACHE is off")
    place = usable(_chosen())
    if place.folder is not None and place.root is not None:
        clear(place.root)
        # Half of a flow's programs compile in less than the second from which JAX keeps them.
        if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:  # pyright: ignore
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_compilation_cache_dir", str(place.folder))
    elif place.wrong:
        warnings.warn(
            f"Compilations are not kept: {place.why}; set {SETTING} to a folder of your own, or to "
            "off.",
            stacklevel=2,
        )
    return place


def started() -> list[Any]:
    """JAX's devices, started now if they were not before.

    Returns:
        Them.

    Raises:
        ValueError: if JAX has none of the platforms that it was told to take.
    """
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        why = str(error).partition("\n")[0].rstrip(". ") or "it has no such platform"
        raise ValueError(
            f"JAX's setting JAX_PLATFORMS must name a device of this machine, but is {asked!r} "
            f"({why}); unset it, or install JAX for that device: pip install 'flowlift[cuda13]'."
        ) from None


def _chosen() -> Path | None:
    """The folder of all machines and versions; None for off."""
    said = os.environ.get(SETTING, "")
    if said.lower() in ("off", "0"):
        return None
    if said:
        return Path(said).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("flowlift") / "compilations"


def usable(root: Path | None) -> Place:
    """Make a folder for this machine and these versions, where only this user can write.

    Args:
        root: the folder of all machines and versions; None for none.

    Returns:
        The place; without a folder where it cannot be made, belongs to someone else, or others
        may write into it.
    """
    if root is None:
        return Place(None, f"the environment variable {SETTING} is off")
    folder = root / machine()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for made in (root, folder):
            # Private from its first moment; one that is there keeps its permissions.
            made.mkdir(mode=0o700, exist_ok=True)
        wrong = next(filter(None, map(_not_private, (root, folder))), None)
        if wrong is None and not os.access(folder, os.W_OK):
            wrong = f"the folder {folder} cannot be written"
    except OSError as error:
        wrong = f"the folder {root} cannot be made ({error.strerror})"
    if wrong is not None:
        return Place(None, wrong, wrong=True)
    own = f"as the environment variable {SETTING} says" if os.environ.get(SETTING) else "by default"
    return Place(folder, own)


def _not_private(folder: Path) -> str | None:
    found = folder.stat()
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return f"the folder {folder} belongs to another user"
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write into the folder {folder}"
    return None


@functools.cache
def machine() -> str:
    """A name for what a compiled program is tied to: jaxlib, and what the processor can do.

    JAX's own key of a program holds its text, the options, the flags of XLA, jaxlib's version and,
    since it can tell them, the features of the processor. Homes that machines share need the last
    in every version.

    Returns:
        Such as jaxlib-0.10.2-x86_64-0123456789ab.
    """
    import jaxlib.version

    kind = platform.machine() or "unknown"
    digest = hashlib.sha256(" ".join(_features()).encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib.version.__version__}-{kind}-{digest}"


def _features() -> list[str]:
    """The instructions that the processor knows, as Linux lists them; elsewhere its name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, values = line.partition(":")
            # On x86, and on ARM.
            if name.strip() in ("flags", "Features"):
                return sorted(values.split())
    return [platform.processor()]


def contents(root: Path) -> Contents:
    """What a folder of compilations holds.

    Args:
        root: the folder of all machines and versions.

    Returns:
        The number of programs and their size.
    """
    sizes = [size for _, size, _ in _files(root)]
    return Contents(len(sizes), sum(sizes))


def clear(root: Path, bound: int = BOUND, between: float = _BETWEEN) -> int:
    """Remove the programs that were not used for longest, where they take more than the bound.

    JAX writes without a temporary name, so that a kill can leave an empty file: it goes, too. Two
    processes may clear at once; one that reads what goes compiles it again. When a file was read
    is what the file system says, to within a day, or when it was written where it says nothing.

    Args:
        root: the folder of all machines and versions.
        bound: bytes.
        between: seconds since the last clearing within which nothing is done.

    Returns:
        The number of removed programs.
    """
    mark = root / _CLEARED
    with contextlib.suppress(OSError):
        if time.time() - mark.stat().st_mtime < between:
            return 0
    with contextlib.suppress(OSError):
        mark.touch()
    found = sorted(_files(root), key=lambda file: file[0])
    size = sum(file[1] for file in found)
    allowed, removed = bound if size <= bound else bound * _LEFT, 0
    for used, bytes_, path in found:
        # One that is being written may still be empty.
        torn = bytes_ == 0 and time.time() - used > _BETWEEN
        if size > allowed or torn:
            with contextlib.suppress(OSError):
                os.unlink(path)
            size, removed = size - bytes_, removed + 1
    return removed


def _files(root: Path) -> list[tuple[float, int, str]]:
    """When each file was last used, its size and its path; those that go meanwhile are left out."""
    found = []
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names if name != _CLEARED):
            with contextlib.suppress(OSError):
                seen = os.lstat(path)
                found.append((max(seen.st_atime, seen.st_mtime), seen.st_size, path))
    return found
