"""What a study's tables can name: choices, made from the functions that build.

A choice is a frozen record whose fields are a function's own arguments, so that a study file, the
command line and the library say the same thing; `build` calls the function. Built-ins come from
`flowlift.registry`, others from the study's sources. Where results are only read, a choice whose
code is not loaded stays `Unloaded`: nothing is executed.
"""

import collections.abc
import contextlib
import contextvars
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import diffrax

from .. import registry, sources
from ..flow.stops import Stop
from ..lift import AbstractEdgeLaw, AbstractWeightLaw
from ..modules import PerceptronModule
from ..tasks import Task


@dataclasses.dataclass(frozen=True)
class Kind:
    """Marks a type as a table of a study file that names one of a kind.

    Attributes:
        name: which kind, a key of `registry.KINDS`.
    """

    name: str


# The registry is open: a type checker cannot know the classes.
ModuleChoice = Annotated[Any, Kind("module")]
ModelChoice = Annotated[Any, Kind("model")]
TaskChoice = Annotated[Any, Kind("task")]
LossChoice = Annotated[Any, Kind("loss")]
TermChoice = Annotated[Any, Kind("term")]
EdgeLaw = Annotated[Any, Kind("edge_law")]
WeightLaw = Annotated[Any, Kind("weight_law")]
Quantity = Annotated[Any, Kind("observer")]
SolverChoice = Annotated[Any, Kind("solver")]
DynamicsChoice = Annotated[Any, Kind("dynamics")]
StopChoice = Annotated[Any, Kind("stop")]


class AbstractChoice:
    """A frozen record of a function's own arguments; `build(**given)` calls it.

    Attributes:
        kind: the word that names it in a study file.
        table: which kind it is.
        function: what it calls.
    """

    kind: typing.ClassVar[str]
    table: typing.ClassVar[str]
    function: typing.ClassVar[Callable]


@dataclasses.dataclass(frozen=True)
class Unloaded:
    """A choice whose code is not loaded: its name and arguments, as recorded.

    Attributes:
        kind: the word that names it in a study file.
        arguments: its arguments, as plain values.
    """

    kind: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, **given: Any) -> Any:
        """Refuse: results are read without executing what they name.

        Args:
            **given: not used.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.kind!r} must be loaded to be run, but this study was only read; run it from "
            "its study file, which is kept with the results."
        )


@dataclasses.dataclass(frozen=True)
class Reading:
    """How names are understood while a study is read.

    Attributes:
        sources: the study's sources.
        execute: whether code that is not loaded yet may be.
    """

    sources: sources.Sources
    execute: bool


_READING: contextvars.ContextVar[Reading] = contextvars.ContextVar("reading")
_CLASSES: dict[tuple, type[AbstractChoice]] = {}


@contextlib.contextmanager
def reading(given: sources.Sources, *, execute: bool) -> Iterator[None]:
    """Understand names by these sources, while the block runs.

    Args:
        given: the study's sources.
        execute: whether code that is not loaded yet may be.

    Yields:
        Nothing.
    """
    token = _READING.set(Reading(given, execute))
    try:
        yield
    finally:
        _READING.reset(token)


def marker(annotation: Any) -> Kind | None:
    """The kind that a type is marked with, if any."""
    extras = getattr(annotation, "__metadata__", ())
    return next((extra for extra in extras if isinstance(extra, Kind)), None)


def class_of(kind: str, word: str, place: str = "the name") -> type | None:
    """The record that a word means.

    Args:
        kind: which kind.
        word: the word, as in a study file.
        place: where it is written, for the message.

    Returns:
        A choice, or the registered class itself where that is a record; None if its code is not
        loaded and must not be.

    Raises:
        ValueError: for an unknown name, or code that cannot be loaded.
    """
    how = _READING.get(Reading({}, False))
    name = sources.named(word)
    if name is None:
        if not how.execute and word in how.sources:
            return None
        entry = registry.find(kind, word, place)
        if entry.function is not None:
            return _record(kind, word, entry.function, entry.tables)
        name = typing.cast(sources.Named, sources.named(entry.target))
        if not how.execute:
            return None
        return _record(kind, word, sources.function(name, {}), {})
    if not (how.execute or sources.is_loaded(name, how.sources)):
        return None
    return _record(kind, word, sources.function(name, how.sources), {})


def _record(kind: str, word: str, function: Callable, tables: Mapping[str, str]) -> type:
    """The record of a function's arguments, made once."""
    if isinstance(function, type) and dataclasses.is_dataclass(function) and ":" not in word:
        return function
    key = (kind, word, function)
    if key not in _CLASSES:
        _CLASSES[key] = _make(kind, word, function, tables)
    return _CLASSES[key]


def _make(
    kind: str, word: str, function: Callable, tables: Mapping[str, str]
) -> type[AbstractChoice]:
    _check_parameters(kind, word, function)
    hints = _annotations(function) | {n: Annotated[Any, Kind(k)] for n, k in tables.items()}
    fields = []
    for parameter in registry.parameters(kind, function):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(
                f"the arguments of `{word}` must be named, but it takes {parameter}; name them, so "
                "that a study can give and check them."
            )
        if not _is_plain(parameter.default):
            # An object, a solver's root finder say: a study file cannot give another.
            continue
        field = dataclasses.field(default=_plain_default(parameter.default))
        fields.append((parameter.name, hints.get(parameter.name, Any), field))
    name = "".join(part.capitalize() for part in word.rpartition(":")[2].split("_"))
    body = {"kind": word, "table": kind, "function": staticmethod(function), "build": _build}
    made = dataclasses.make_dataclass(
        name, fields, bases=(AbstractChoice,), frozen=True, kw_only=True, namespace=body
    )
    made.__doc__, made.__module__ = inspect.getdoc(function), __name__
    return made


def _is_plain(default: Any) -> bool:
    if isinstance(default, tuple | list):
        return all(map(_is_plain, default))
    if isinstance(default, dict):
        return all(map(_is_plain, default.values()))
    return default is inspect.Parameter.empty or isinstance(default, _PLAIN)


# What a function of a kind must take, since the study gives it, ...
_TAKES = {"model": ("size", "seed"), "observer": ("model",)}
# ... and what no argument may be called: a table of a study, and the record made of it, have these.
_RESERVED = ("kind", "table", "function", "build")


def _check_parameters(kind: str, word: str, function: Callable) -> None:
    """Refuse a function whose arguments do not fit its role."""
    there = inspect.signature(function).parameters
    missing = [f"`{name}`" for name in _TAKES.get(kind, ()) if name not in there]
    if missing:
        raise ValueError(
            f"the {kind.replace('_', ' ')} `{word}` must take {' and '.join(missing)} by name, but "
            f"takes {', '.join(there) or 'nothing'}; rename its arguments, or add what is missing."
        )
    taken = [name for name in there if name in _RESERVED]
    if taken:
        raise ValueError(
            f"the arguments of `{word}` must not be called {', '.join(_RESERVED)}, but one is "
            f"{taken[0]!r}; rename it."
        )


def _plain_default(default: Any) -> Any:
    return dataclasses.MISSING if default is inspect.Parameter.empty else default


def _hints(function: Callable) -> dict[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError):
        return dict(getattr(target, "__annotations__", {}))


def _annotations(function: Callable) -> dict[str, Any]:
    """Types of arguments as a study file writes them."""
    return {name: _written(hint) for name, hint in _hints(function).items()}


_TABLES: dict[Any, Any] = {
    PerceptronModule: ModuleChoice,
    Task: TaskChoice,
    AbstractEdgeLaw: EdgeLaw,
    AbstractWeightLaw: WeightLaw,
}
_PLAIN = (int, float, str, bool, type(None))


def _written(hint: Any) -> Any:
    """A type that TOML can write; what it cannot is taken as it comes."""
    if hint in _PLAIN or marker(hint):
        return hint
    if hint in _TABLES:
        return _TABLES[hint]
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return hint
    if origin in (list, tuple, collections.abc.Sequence) and options:
        items = [o if o is ... else _written(o) for o in options]
        return tuple[(*items, ...)] if origin is not tuple else tuple[tuple(items)]
    if origin in (dict, collections.abc.Mapping):
        # TOML's keys are strings; `_build` gives the function those it expects.
        return dict[str, _written(options[1])]
    if origin in (typing.Union, types.UnionType):
        # A function may take a string or an object, an activation say: a study writes the string.
        plain = [w for w in map(_written, options) if w is not Any]
        return typing.Union[tuple(plain)] if plain else Any  # noqa: UP007
    return Any


def _expected(word: str, name: str, hint: Any, value: Any) -> Any:
    """A value as the function expects it: a mapping from integers has keys that are integers."""
    keyed = typing.get_origin(hint) in (dict, collections.abc.Mapping)
    if not (isinstance(value, dict) and keyed and typing.get_args(hint)[0] in (int, float)):
        return value
    number = typing.get_args(hint)[0]
    try:
        return {number(key): item for key, item in value.items()}
    except ValueError:
        wrong = "integers" if number is int else "numbers"
        raise ValueError(
            f"Argument `{name}` of `{word}` must have keys that are {wrong}, but has "
            f"{', '.join(map(repr, value))}; correct them."
        ) from None


def _build(self: AbstractChoice, **given: Any) -> Any:
    """Call the function with the record's fields and what the study gives.

    Args:
        self: the record.
        **given: what the study gives, such as size and seed; what the function does not take is
            left out.

    Returns:
        What the function makes, checked to be one of its kind. A loss or a term may also be the
        function itself, of what the study gives and its own arguments.

    Raises:
        ValueError: if it makes something else.
    """
    function, hints = type(self).function, _hints(type(self).function)
    fields = {
        f.name: _expected(self.kind, f.name, hints.get(f.name), built(getattr(self, f.name)))
        for f in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
    }
    accepted = inspect.signature(function).parameters
    given = {name: value for name, value in given.items() if name in accepted}
    if function.__module__.partition(".")[0] == "flowlift":
        return function(**fields, **given)
    if self.table in ("loss", "term") and accepted.keys() >= set(registry.GIVEN[self.table]):
        return functools.partial(function, **fields)
    made = sources.calling(function, self.kind, **fields, **given)
    wanted = MAKES.get(self.table)
    if wanted is not None and not isinstance(made, wanted):
        raise ValueError(
            f"`{self.kind}` must return a {self.table.replace('_', ' ')}, {_names(wanted)}, but "
            f"returns {type(made).__name__}; see the page on own studies."
        )
    return made


MAKES: dict[str, Any] = {
    "solver": diffrax.AbstractSolver,
    "stop": Stop,
    "module": PerceptronModule,
    "task": Task,
    "edge_law": AbstractEdgeLaw,
    "weight_law": AbstractWeightLaw,
}


def _names(wanted: Any) -> str:
    return " or ".join(cls.__name__ for cls in typing.get_args(wanted) or (wanted,))


def built(value: Any, **given: Any) -> Any:
    """What a choice means; anything else is itself.

    Args:
        value: a choice or a value.
        **given: what the study gives.

    Returns:
        The object.
    """
    if isinstance(value, AbstractChoice | Unloaded):
        return value.build(**given)  # pyright: ignore[reportAttributeAccessIssue]
    return value


def is_loaded(value: Any) -> bool:
    """Whether a choice can be built without loading code."""
    return not isinstance(value, Unloaded)


def kind_of(value: Any, kind: str) -> str:
    """The word that names a record in a study file.

    Args:
        value: a choice, or a record that is registered itself.
        kind: which kind it is.

    Returns:
        The word.

    Raises:
        ValueError: for what is neither.
    """
    if isinstance(value, AbstractChoice | Unloaded):
        return value.kind
    name = registry.name_of(kind, type(value))
    if name is None:
        raise ValueError(
            f"a {kind.replace('_', ' ')} of a study must be registered or named by its file, but "
            f"is {value!r}; give its function and arguments instead."
        )
    return name


def build_module(chosen: Any) -> PerceptronModule:
    """The module that a choice means."""
    return built(chosen)


def build_task(chosen: Any, precision: str) -> Task:
    """The task that a choice means, in a precision."""
    return built(chosen, precision=precision)
