"""What a study can name: one open table per kind, of the standard library alone.

A kind is a role that a function (or class) plays in a study: it makes a module, a task, an edge
law, and so on. A built-in is registered in its own file by the same decorator as a user's:

    @flowlift.register("task")
    def two_moons(*, samples: int, noise: float = 0.1) -> Task: ...

A study names it by its word, "two_moons"; by a file, "gated.py:two_moons"; by a module of an
installed package, "my_package.tasks:two_moons"; or by a name that a package registers as an entry
point in the group `flowlift.task` (of the kind). Files of flowlift's rooms are read when a kind is
first asked for, so that a new built-in is one new file.
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from .showing import shows_itself

# Each kind with the rooms in whose files built-ins register themselves, and the arguments that a
# study gives by itself: they are no keys of a study file.
KINDS: dict[str, tuple[str, ...]] = {
    "module": ("modules",),
    "model": ("studies", "tasks"),
    "task": ("tasks",),
    "loss": ("tasks",),
    "term": ("tasks",),
    "edge_law": ("lift",),
    "weight_law": ("lift",),
    "observer": ("diagnostics", "studies"),
    "solver": ("flow", "solvers"),
    "dynamics": ("flow",),
    "stop": ("flow",),
    "figure": ("plot",),
}
GIVEN: dict[str, tuple[str, ...]] = {
    "model": ("size", "seed"),
    "task": ("precision",),
    "observer": ("model", "task", "reference", "trainable"),
    "loss": ("output", "target"),
    "term": ("model",),
    "figure": ("data", "ax"),
}
# What the command line and people call several of a kind.
PLURALS = {f"{kind}s": kind for kind in KINDS if not kind.endswith("s")}
PLURALS |= {"losses": "loss", "dynamics": "dynamics"}
Made = TypeVar("Made", bound=Callable)
# Modules that are made from the sources of a study: it names their functions by their files.
FROM_SOURCES = "flowlift_sources_"


@shows_itself
@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered function.

    Attributes:
        kind: which table it is in.
        name: the word that names it.
        function: what makes the object; None for an entry point that is not yet imported.
        origin: where it comes from.
        target: "module:name" of an entry point; "" where two registrations claim the name.
        tables: arguments that a study file writes as tables, with the kind that each names.
    """

    kind: str
    name: str
    function: Callable | None
    origin: str
    target: str = ""
    tables: Mapping[str, str] = dataclasses.field(default_factory=dict)


_TABLES: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_READ: set[str] = set()


def register(
    kind: str, name: str | None = None, *, tables: Mapping[str, str] | None = None
) -> Callable[[Made], Made]:
    """Register a function or class under a name that studies can use in this process.

    Workers import what a study names by file or package; a name that only this process registered
    reaches them because the study records where its source is.

    Args:
        kind: one of `KINDS`.
        name: the word; by default the function's name, in snake case.
        tables: arguments that a study file writes as tables, with the kind that each names, where
            the type of the argument does not say it.

    Returns:
        A decorator that leaves the function as it is.

    Raises:
        ValueError: for an unknown kind, a name that is no word, or one that another function of
            this kind has.
    """
    check_kind(kind)

    def enter(function: Made) -> Made:
        if function.__module__.startswith(FROM_SOURCES):
            return function
        word = snake_case(function.__name__) if name is None else name
        if not re.fullmatch(r"[^\W\d][\w-]*", word):
            raise ValueError(
                f"Argument `name` must be a word of letters, digits, hyphens, underscores, but is "
                f"{word!r}; choose another."
            )
        before = _TABLES[kind].get(word)
        if before is not None and _place(before.function) != _place(function):
            raise ValueError(
                f"Argument `name` must be free among kinds of {kind}, but {word!r} is registered "
                f"by {before.origin}; choose another name."
            )
        _TABLES[kind][word] = Entry(kind, word, function, _origin(function), tables=tables or {})
        return function

    return enter


def find(kind: str, name: str, place: str = "the name") -> Entry:
    """The entry of a name; an entry point's package is not imported.

    Args:
        kind: one of `KINDS`.
        name: the word.
        place: where it is written, for the message.

    Returns:
        The entry.

    Raises:
        ValueError: if the kind or the name is unknown, or registered twice.
    """
    names = known(kind)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)
        raise ValueError(
            f"{place} must be one of {', '.join(names)}, or file.py:name, or package.module:name, "
            f"but is {name!r}; the nearest known is {(near or ['none'])[0]!r}."
        )
    entry = names[name]
    if entry.function is None and not entry.target:
        raise ValueError(
            f"{place} must be registered once, but {name!r} is registered by {entry.origin}; "
            "uninstall one of them, or write package.module:name."
        )
    return entry


def known(kind: str) -> dict[str, Entry]:
    """All names of a kind: built-ins first, then those of installed packages.

    Args:
        kind: one of `KINDS`.

    Returns:
        Entries by name; entry points are named without being imported.

    Raises:
        ValueError: for an unknown kind.
    """
    check_kind(kind)
    if kind not in _READ:
        for room in KINDS[kind]:
            _read_room(room)
        _READ.add(kind)
    return _TABLES[kind] | {entry.name: entry for entry in _entry_points(kind)}


def foreign(word: str) -> Entry | None:
    """The entry of a name that is no built-in's: registered in this process, or by a package.

    Args:
        word: the name, of any kind.

    Returns:
        The entry; None for built-ins and unknown names. No room is read and nothing imported.
    """
    tables = [*(t.values() for t in _TABLES.values()), *map(_entry_points, KINDS)]
    entries = (entry for table in tables for entry in table)
    return next((e for e in entries if e.name == word and e.origin != "built in"), None)


def name_of(kind: str, function: Callable) -> str | None:
    """The name under which a function is registered, None if it is not."""
    return next((e.name for e in known(kind).values() if e.function is function), None)


def parameters(kind: str, function: Callable | None) -> Iterator[inspect.Parameter]:
    """A function's own parameters: those that a study file gives.

    Args:
        kind: which role the function plays.
        function: the function; None has none.

    Yields:
        Its parameters but those that the study gives by itself.
    """
    for parameter in inspect.signature(function).parameters.values() if function else ():
        if parameter.name not in GIVEN.get(kind, ()):
            yield parameter


def check_kind(kind: str) -> None:
    """Refuse what is no kind.

    Args:
        kind: the word.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(
            f"Argument `kind` must be one of {', '.join(KINDS)}, but is {kind!r}; choose one."
        )


def snake_case(name: str) -> str:
    """A class's or function's name in snake case: FixedInDegree is fixed_in_degree."""
    return re.sub(r"(?<!^)(?<!_)(?=[A-Z])", "_", name).lower()


def _read_room(room: str) -> None:
    package = importlib.import_module(f"flowlift.{room}")
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(info.name)


# Reading what is installed takes tens of milliseconds.
@functools.cache
def _entry_points(kind: str) -> tuple[Entry, ...]:
    found: dict[str, Entry] = {}
    for point in importlib.metadata.entry_points(group=f"flowlift.{kind}"):
        name, version = (point.dist.name, point.dist.version) if point.dist else ("?", "?")
        entry = Entry(kind, point.name, None, f"package {name} {version}", point.value)
        other = found.get(point.name) or _TABLES[kind].get(point.name)
        if other is not None:
            # Refused where the name is used: others stay usable.
            origin = f"{other.origin} and {entry.origin}"
            entry = dataclasses.replace(entry, origin=origin, target="")
        found[point.name] = entry
    return tuple(found.values())


def _place(function: Any) -> tuple[str, str]:
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function))


def _origin(function: Any) -> str:
    module = getattr(function, "__module__", "") or "?"
    return "built in" if module.partition(".")[0] == "flowlift" else f"module {module}"
