"""Source code that a study names: found, hashed, carried to workers, loaded; read, never guessed.

A name "gated.py:two_moons" means a file beside the study. Its text, with the texts of files beside
it that it imports, is hashed into the identity of every run, kept with the results and sent to
workers, which load it from the text: no import path is shared. A name "my_package.tasks:moons"
means an installed module: its package's name, version and the hash of the module's file stand for
it. Nothing here is executed unless `function` is called.
"""

import ast
import builtins
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .origin import package_version
from .registry import FROM_SOURCES
from .spelling import path_of, spelt, text_of

# Text by its SHA-256, and where each was read, for messages.
_TEXTS: dict[str, str] = {}
_PLACES: dict[str, str] = {}
_MODULES: dict[tuple, types.ModuleType] = {}
# For each file or module that a study names, the digests of the files it consists of.
Sources = Mapping[str, Mapping[str, str]]


class UserCodeError(ValueError):
    """Raised where code that a study names raises: one sentence with its file and line."""


@dataclasses.dataclass(frozen=True)
class Named:
    """A name of the form "file.py:name" or "package.module:name".

    Attributes:
        source: the file's name, or the module's.
        name: the function in it.
    """

    source: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file beside the study."""
        return self.source.endswith(".py")

    def __str__(self) -> str:
        """As a study writes it."""
        return f"{self.source}:{self.name}"


def named(word: str) -> Named | None:
    """What a word names, None if it is a plain name of the registry.

    Args:
        word: as written in a study.

    Returns:
        The file or module, and the function.

    Raises:
        ValueError: if a part is missing.
    """
    source, colon, name = word.rpartition(":")
    if not colon:
        return None
    if not source or not name.isidentifier():
        raise ValueError(
            f"a name must read file.py:name or package.module:name, but is {word!r}; name the file "
            "and the function."
        )
    return Named(source, name)


def from_file(path: Path) -> dict[str, str]:
    """Read a file and the files beside it that it imports, at any depth, without executing them.

    Args:
        path: the file.

    Returns:
        SHA-256 digests of their texts by file name.

    Raises:
        ValueError: if the file is missing, is no UTF-8 text or no Python.
    """
    found: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        name = text_of(file.name)
        if name in found:
            continue
        text = _read(file)
        found[name] = remember(text, file)
        waiting += [file.parent / path_of(f"{m}.py") for m in _imported(text, file)]
    return found


def remember(text: str, place: Path | None = None) -> str:
    """Keep a text in this process.

    Args:
        text: Python.
        place: where it was read.

    Returns:
        Its SHA-256, in hexadecimal digits.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    _TEXTS[digest] = text
    if place is not None:
        _PLACES.setdefault(digest, spelt(str(place)))
    return digest


def recall(files: Mapping[str, str], folder: Path) -> bool:
    """Read texts that results keep, each in a folder that is named by its content.

    Args:
        files: the digests of a study's source by file name.
        folder: the folder of them all.

    Returns:
        Whether all of them are known in this process now.

    Raises:
        ValueError: if a file was changed since it was kept.
    """
    for name, digest in files.items():
        path = folder / kept_at(name, digest)
        if digest in _TEXTS or not path.is_file():
            continue
        if remember(_read(path)) != digest:
            raise ValueError(
                f"the file {str(path)!r} must be as it was kept with the results, but has "
                "changed; restore it."
            )
        _PLACES.setdefault(digest, spelt(str(path)))
    return set(files.values()) <= set(_TEXTS)


def kept_at(name: str, digest: str) -> Path:
    """Where results keep a text: the file in a folder named by the digest's first 16 digits."""
    return Path(digest[:16]) / path_of(name)


def texts(sources: Sources) -> dict[str, str]:
    """The texts of a study's sources that this process knows.

    Args:
        sources: the study's sources.

    Returns:
        Texts by their SHA-256.
    """
    digests = {value.rpartition(":")[2] for files in sources.values() for value in files.values()}
    return {digest: _TEXTS[digest] for digest in sorted(digests) if digest in _TEXTS}


def of(word: Named, folders: Iterable[Path]) -> dict[str, str]:
    """The sources of a name: of a file, found in one of some folders, or of a module.

    Args:
        word: the name; that of a file may hold folders.
        folders: where to look for a file, in order.

    Returns:
        Digests, or the description of a package, by name.

    Raises:
        ValueError: if there is no such file or module.
    """
    if not word.is_file:
        return {word.source: of_package(word.source)}
    places = [folder / path_of(word.source) for folder in folders]
    return from_file(next((place for place in places if place.is_file()), places[0]))


def of_package(module: str) -> str:
    """What stands for a module of an installed package: name, version, hash of its file.

    Args:
        module: the module's full name.

    Returns:
        "package version sha256:digest".

    Raises:
        ValueError: if there is no such module.
        UserCodeError: if the package that holds it raises.
    """
    try:
        # That of a part of a package imports the package.
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    except Exception as error:
        raise UserCodeError(_sentence(module, error)) from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(
            f"the module {module!r} must be importable and written in Python, but was not found; "
            "install its package, or name a file as file.py:name."
        )
    digest = remember(_read(Path(spec.origin)), Path(spec.origin))
    return f"{_distribution(module)} sha256:{digest}"


def function(word: Named, sources: Sources) -> Callable:
    """Load a function; its file or module is executed, once in a process.

    Args:
        word: the name.
        sources: the study's sources.

    Returns:
        The function or class.

    Raises:
        ValueError: if the source is not known in this process, is another than recorded, or has
            no such function.
        UserCodeError: if the code raises.
    """
    files = sources.get(word.source, {})
    module = _file_module(word.source, files) if word.is_file else _package(word, files)
    made = getattr(module, word.name, None)
    if not callable(made):
        raise ValueError(
            f"{word.source!r} must define the function {word.name!r}, but does not; it defines "
            f"{_defined(module, word.name)}."
        )
    return made


# Names of a module that a message holds; of more, the nearest.
_NAMED = 12


def _defined(module: types.ModuleType, wanted: str) -> str:
    """The functions and classes of a module, those that it imports only where it has no other."""
    there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
    own = [n for n in there if getattr(vars(module)[n], "__module__", "") == module.__name__]
    names = own or there
    if len(names) > _NAMED:
        near = difflib.get_close_matches(wanted, names, _NAMED, 0.0)
        return f"{', '.join(near)} and {len(names) - len(near)} more"
    return ", ".join(names) or "none"


def is_loaded(word: Named, sources: Sources) -> bool:
    """Whether loading a name would execute nothing: this very source has been loaded before."""
    files = sources.get(word.source, {})
    if word.is_file:
        return _key(word.source, files) in _MODULES
    recorded = files.get(word.source)
    return recorded is not None and word.source in sys.modules and recorded == _here(word.source)


def _here(module: str) -> str | None:
    """What stands for a module that is imported; None if that cannot be told."""
    try:
        return of_package(module)
    except ValueError:
        return None


def calling(made: Callable, word: object, /, *arguments: Any, **given: Any) -> Any:
    """Call code that a study names; what it raises becomes one sentence with its file and line.

    Args:
        made: the function.
        word: how the study names it.
        *arguments: passed on.
        **given: passed on.

    Returns:
        What it returns.

    Raises:
        UserCodeError: if it raises.
    """
    try:
        return made(*arguments, **given)
    except UserCodeError:
        raise
    # A script's sys.exit would end the program without a word.
    except (Exception, SystemExit) as error:
        raise UserCodeError(_sentence(word, error)) from error


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
    except OSError as error:
        raise ValueError(
            f"the file {str(path)!r} must be readable, but is not ({error.strerror}); check the "
            "name, which is relative to the study file."
        ) from None
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(
            f"the file {str(path)!r} must be Python in UTF-8, but is not: {error}."
        ) from None
    except SyntaxError as error:
        raise UserCodeError(
            f"the file {str(path)!r} must be Python, but line {error.lineno} is not: {error.msg}."
        ) from None
    return text


def _imported(text: str, file: Path) -> Iterator[str]:
    """Names of modules that a text imports and that are files beside it."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        names = [name for name in names if "." not in name]
        yield from (n for n in names if (file.parent / path_of(f"{n}.py")).is_file())


def _key(name: str, files: Mapping[str, str]) -> tuple:
    return (name, *sorted(files.items()))


def _file_module(name: str, files: Mapping[str, str]) -> types.ModuleType:
    key = _key(name, files)
    if key in _MODULES:
        return _MODULES[key]
    digest = files.get(name, "")
    if digest not in _TEXTS:
        raise ValueError(
            f"the file {name!r} must be known here with the SHA-256 {digest[:12] or 'recorded'}, "
            "but is not; read the study from its file, or from the folder of results that keeps it."
        )
    text, place = _TEXTS[digest], _PLACES.get(digest, spelt(f"<{name} {digest[:12]}>"))
    unique = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    module = types.ModuleType(f"{FROM_SOURCES}{Path(name).stem}_{unique}")
    module.__file__ = place
    # Files beside it are found by its own import statement alone: nothing else in the process
    # sees them, and two studies may have different files of one name.
    module.__dict__["__builtins__"] = vars(builtins) | {
        "__import__": functools.partial(_import, files)
    }
    # Tracebacks and inspect read the text from here.
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    sys.modules[module.__name__] = module
    _MODULES[key] = module
    try:
        calling(exec, name, compile(text, place, "exec"), vars(module))
    except UserCodeError:
        del _MODULES[key], sys.modules[module.__name__]
        raise
    return module


def _import(files, name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and f"{name}.py" in files:
        return _file_module(f"{name}.py", files)
    return __import__(name, globals, locals, fromlist, level)


def _package(word: Named, files: Mapping[str, str]) -> types.ModuleType:
    here, recorded = of_package(word.source), files.get(word.source)
    if recorded is not None and recorded != here:
        raise ValueError(
            f"the module {word.source!r} must be the one that the study records, {recorded}, but "
            f"here is {here}; install that version, or read the study from its own file again."
        )
    return calling(importlib.import_module, word.source, word.source)


def _sentence(word: object, error: BaseException) -> str:
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _own_places()]
    frames = own or traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = str(error).partition("\n")[0].rstrip(". ")
    return f"code of the study, `{word}`, raised {type(error).__name__}: {said}{place}; mend it."


def _own_places() -> set[str]:
    return {module.__file__ or "" for module in _MODULES.values()} | set(_PLACES.values())


def _distribution(module: str) -> str:
    top = module.partition(".")[0]
    return f"{top} {package_version(top) or 'without a version'}"
