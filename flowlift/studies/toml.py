"""Study files: TOML, read strictly into a `Study` and written back whole."""

import copy
import dataclasses
import difflib
import itertools
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cattrs
import tomli_w
from cattrs.strategies import configure_tagged_union

from .kinds import UNIONS, kind_of
from .observations import Quantity
from .records import Study, Value


def read_study(path: str | Path, overrides: Sequence[str] = (), *, quick: bool = False) -> Study:
    """Read a study file.

    Args:
        path: the TOML file.
        quick: make the assignments of the file's table `quick`, before all others.
        overrides: assignments "dotted.key=value", the value in TOML (a bare word is a string),
            applied before anything is checked; a whole table can be replaced.

    Returns:
        The study.

    Raises:
        ValueError: if the file is no TOML, a key is unknown (the nearest known one is named) or
            missing, a value has a wrong type, or a record refuses its values; the sentence names
            the file.
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
    """
    text = _text_of(path)
    try:
        raw = tomllib.loads(text)
        if quick:
            assigned = raw.get("quick", {})
            _check_table(assigned, "quick")
            for key, value in assigned.items():
                _assign(raw, key, value)
        for assignment in overrides:
            _assign(raw, *_parse_assignment(assignment))
        return structure_study(raw)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Study file {str(path)!r}: {error}") from None
    except RecursionError:
        raise ValueError(
            f"Study file {str(path)!r}: lists and tables must be nested a few levels deep, but are "
            "nested hundreds of levels deep; write them flat."
        ) from None


def _text_of(path: str | Path) -> str:
    """The text of a study file, in UTF-8 as TOML demands, whatever the locale."""
    name = str(path)
    if "\0" in name or not Path(path).is_file():
        what = "is a folder" if "\0" not in name and Path(path).is_dir() else "does not exist"
        raise FileNotFoundError(
            f"Argument `study` must be a TOML file, but {name!r} {what}; check the path."
        )
    try:
        return Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Study file {name!r}: a study must be text in UTF-8, but byte {error.start} is none; "
            "name a TOML file, or save it as UTF-8."
        ) from None
    except OSError as error:
        raise OSError(
            f"Argument `study` must be a file that can be read, but {name!r} gave: "
            f"{error.strerror}; change its permissions."
        ) from None


def structure_study(raw: Mapping[str, Any]) -> Study:
    """The study that a nested mapping of plain values means.

    Args:
        raw: as read from TOML.

    Returns:
        The study.

    Raises:
        ValueError: as for `read_study`.
    """
    _check_keys(raw, Study, "")
    try:
        return _CONVERTER.structure(raw, Study)
    except Exception as error:
        raise ValueError(_first_sentence(error)) from None


def variants(study: Study) -> Iterator[tuple[dict[str, Value], Study]]:
    """The studies along the further axes of a grid: those of `vary`, then of `alternatives`.

    Args:
        study: the study.

    Yields:
        For each combination, the value along each axis (a label along an axis of alternatives)
        and the study with the assignments made.

    Raises:
        ValueError: for keys or values that the study does not take.
    """
    base = plain(study) | {"vary": {}, "alternatives": {}, "quick": {}}
    for combination in itertools.product(*_axes(study).values()):
        point = {axis: value for axis, value, _ in combination}
        raw = copy.deepcopy(base)
        for _, _, assignments in combination:
            for key, value in assignments.items():
                _assign(raw, key, copy.deepcopy(value))
        try:
            yield point, structure_study(raw)
        except ValueError as error:
            if not point:
                raise
            raise ValueError(
                f"Arguments `vary` and `alternatives` must name keys of the study with values that "
                f"they take, but {point} makes a study in which {error}"
            ) from None


def _axes(study: Study) -> dict[str, list[tuple[str, Value, dict[str, Any]]]]:
    """For each further axis its points: axis, value, and what the value assigns."""
    points: dict[str, list[tuple[str, Value, dict[str, Any]]]] = {}
    for key, values in study.vary.items():
        points[key] = [(key, value, {key: value}) for value in values]
    for axis, labels in study.alternatives.items():
        points[axis] = [(axis, label, assigned) for label, assigned in labels.items()]
    return points


def axis_values(study: Study) -> dict[str, list[Value]]:
    """The values along each further axis, in the study's order; labels for alternatives."""
    return {axis: [value for _, value, _ in points] for axis, points in _axes(study).items()}


def plain(study: Study) -> dict[str, Any]:
    """The study as a nested dict of plain values, without what is None: the inverse of reading."""
    return _without_none(_CONVERTER.unstructure(study))


def to_toml(study: Study) -> str:
    """The study with every default written out, as TOML text."""
    return tomli_w.dumps(plain(study))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        return [_without_none(v) for v in value]
    return value


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    key, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(
            f"An assignment must read key=value, but is {assignment!r}; write e.g. seeds=3."
        )
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text


def _assign(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents, 1):
        raw = raw.setdefault(parent, {})
        _check_table(raw, ".".join(parents[:depth]))
    raw[last] = value


def _check_table(raw: Any, name: str) -> None:
    if not isinstance(raw, Mapping):
        raise ValueError(f"key `{name}` must be a table, but is {raw!r}; write [{name}].")


def _check_keys(raw: Any, expected: Any, where: str) -> None:
    """Name the nearest known key of an unknown one, before the values are looked at."""
    expected = _given(expected)
    if typing.get_origin(expected) is dict:
        _check_table(raw, where.rstrip("."))
        for key, value in raw.items():
            _check_keys(value, typing.get_args(expected)[1], f"{where}{key}.")
        return
    cls, known = _record(raw, expected, where)
    if cls is None:
        return
    for key, value in raw.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.0)
            raise ValueError(
                f"key `{where}{key}` is unknown; the nearest known key is `{where}{near[0]}`."
                if near
                else f"key `{where}{key}` is unknown; no key is known there."
            )
        if key != "kind":
            _check_keys(value, known[key], f"{where}{key}.")
    missing = [f.name for f in dataclasses.fields(cls) if f.name not in raw and not _has_default(f)]
    if missing:
        raise ValueError(f"key `{where}{missing[0]}` is missing; it has no default, so give it.")


def _record(raw: Any, expected: Any, where: str) -> tuple[type | None, dict[str, Any]]:
    """The dataclass meant by a table, and its keys with their types."""
    if expected in (*UNIONS, Quantity):
        kinds = {kind_of(cls): cls for cls in typing.get_args(expected)}
        kind = raw.get("kind") if isinstance(raw, Mapping) else None
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(
                f"key `{where}kind` must be one of {', '.join(kinds)}, but is {kind!r}; choose one."
            )
        expected = kinds[kind]
        return expected, {"kind": str} | _types(expected)
    if not (dataclasses.is_dataclass(expected) and isinstance(expected, type)):
        return None, {}
    _check_table(raw, where.rstrip(".") or "study")
    return expected, _types(expected)


def _given(expected: Any) -> Any:
    """The type of a value that is there, of one that may be None."""
    if isinstance(expected, types.UnionType) and type(None) in typing.get_args(expected):
        (expected,) = (a for a in typing.get_args(expected) if a is not type(None))
    return expected


def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _first_sentence(error: Exception) -> str:
    """The first cause in cattrs' tree of errors, with the key's path."""
    path = ""
    while isinstance(error, cattrs.BaseValidationError):
        error = typing.cast(Exception, error.exceptions[0])
        for note in getattr(error, "__notes__", ()):
            path += f".{getattr(note, 'name', getattr(note, 'index', ''))}"
    place = path.strip(".")
    if isinstance(error, _WrongType):
        return f"key `{place}` must be {error.wanted}, but is {error.value!r}; correct it."
    return f"table `{place}`: {error}" if place else str(error)


class _WrongType(ValueError):
    def __init__(self, wanted: str, value: Any):
        super().__init__(f"must be {wanted}, but is {value!r}")
        self.wanted, self.value = wanted, value


_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def _is(value: Any, cls: type) -> bool:
    if cls is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, cls) and (cls is bool or not isinstance(value, bool))


def _strict(cls: type):
    def structure(value, _):
        if not _is(value, cls):
            raise _WrongType(_WORDS[cls], value)
        if cls is float and math.isnan(value):
            raise _WrongType("a number", value)
        try:
            return cls(value)
        except OverflowError:
            raise _WrongType("a number below 1.8e308", value) from None

    return structure


def _strict_sequence(annotation, converter):
    item = typing.get_args(annotation)[0]

    def structure(value, _):
        if not isinstance(value, list | tuple):
            raise _WrongType("a list", value)
        return tuple(converter.structure(x, item) for x in value)

    return structure


def _structure_value(value, _):
    if not isinstance(value, int | float | str | bool):
        raise _WrongType("a number, a string, true or false", value)
    return value


def _optional(annotation, converter):
    inner = _given(annotation)
    return lambda value, _: None if value is None else converter.structure(value, inner)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=False)
    for cls in _WORDS:
        converter.register_structure_hook(cls, _strict(cls))
    converter.register_structure_hook_factory(
        lambda t: typing.get_origin(t) is tuple, _strict_sequence
    )
    converter.register_structure_hook_factory(
        lambda t: isinstance(t, types.UnionType) and type(None) in typing.get_args(t), _optional
    )
    converter.register_structure_hook_func(lambda t: t == Value, _structure_value)
    for union in (*UNIONS, Quantity):
        configure_tagged_union(union, converter, tag_generator=kind_of, tag_name="kind")
    return converter


_CONVERTER = _make_converter()
