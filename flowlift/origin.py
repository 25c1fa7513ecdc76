"""Where code comes from: Python, a package with its version, or source files with their hash."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import struct
import sys
import types
from pathlib import Path
from typing import Any

_INSTALLED = ("site-packages", "dist-packages")


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where code comes from.

    Attributes:
        name: of the package, or of the module where it belongs to none.
        version: of the package; "" where it belongs to none.
        sha256: of the source files of a package under development, or of the module's one file;
            "" for Python and installed packages, and where there is no file (a notebook).
    """

    name: str
    version: str
    sha256: str

    @property
    def known(self) -> bool:
        """Whether name, version and hash say all about the code."""
        return bool(self.version)


@functools.cache
def origin(module: str) -> Origin:
    """Where the code of a module comes from.

    Args:
        module: its full name.

    Returns:
        The origin. It is read once in a process.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return Origin("python", ".".join(map(str, sys.version_info[:3])), "")
    file = getattr(sys.modules.get(module), "__file__", None)
    home = getattr(sys.modules.get(top), "__file__", None) or file
    installed = home is None or any(part in _INSTALLED for part in Path(home).parts)
    version = package_version(top)
    if not version:
        return Origin(module, "", _source(Path(file)) if file and Path(file).is_file() else "")
    if installed or home is None:
        return Origin(top, version, "")
    return Origin(top, version, _sources(Path(home).parent))


@functools.cache
def package_version(top: str) -> str:
    """The version of the distribution that brings a top-level package, "" for none."""
    names = [top, *_distributions().get(top, ())]
    for name in filter(None, names):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {k: sorted(set(v)) for k, v in importlib.metadata.packages_distributions().items()}


def _source(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _sources(folder: Path) -> str:
    files = sorted(folder.rglob("*.py"))
    return hash_parts(
        *(part for f in files for part in (bytes(f.relative_to(folder)), f.read_bytes()))
    ).hex()


def hash_parts(*parts: bytes) -> bytes:
    """SHA-256 of parts, each with its length: no two lists of parts are written alike."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def home_module(item: Any) -> str:
    """The module that a function or a class was written in, "" for other values."""
    if isinstance(item, types.FunctionType):
        return str(item.__globals__.get("__name__", ""))
    return item.__module__ if isinstance(item, type) else ""
