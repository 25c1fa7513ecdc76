"""Plain values into records and back: strictly, each refusal one sentence that names the key."""

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import cattrs

from .kinds import AbstractChoice, Kind, Unloaded, class_of, kind_of, marker
from .records import Study, Value


def structured(raw: Mapping[str, Any]) -> Study:
    """The study that a nested mapping of plain values means.

    Args:
        raw: as read from TOML.

    Returns:
        The study.

    Raises:
        ValueError: if a key is unknown (the nearest known one is named) or missing, a value has a
            wrong type, or a record refuses its values.
    """
    _check_keys(raw, Study, "")
    try:
        return _CONVERTER.structure(raw, Study)
    except Exception as error:
        raise ValueError(_first_sentence(error)) from error


def unstructured(value: Any, annotation: Any = Any) -> Any:
    """Plain values of a record, without what is None: the inverse of `structured`.

    Args:
        value: a record or anything that it holds.
        annotation: the type of the field that holds it.

    Returns:
        Numbers, strings, lists and dicts.
    """
    kind = marker(given_type(annotation))
    if isinstance(value, Unloaded):
        return {"kind": value.kind, **value.arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"kind": kind_of(value, kind.name)} if kind else {}
        hints = _types(type(value))
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return named | {
            n: unstructured(v, hints.get(n, Any)) for n, v in fields.items() if v is not None
        }
    if isinstance(value, Mapping):
        of = (*typing.get_args(given_type(annotation)), Any, Any)[1]
        return {k: unstructured(v, of) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        of = (*typing.get_args(given_type(annotation)), Any)[0]
        return [unstructured(v, of) for v in value]
    return value


def check_table(raw: Any, name: str) -> None:
    """Refuse what is no table.

    Args:
        raw: a plain value.
        name: its key.

    Raises:
        ValueError: if it is something else.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"key `{name}` must be a table, but is {raw!r}; write [{name}].")


def _check_keys(raw: Any, expected: Any, where: str) -> None:
    """Name the nearest known key of an unknown one, before the values are looked at."""
    expected = given_type(expected)
    if typing.get_origin(expected) is dict:
        check_table(raw, where.rstrip("."))
        for key, value in raw.items():
            _check_keys(value, typing.get_args(expected)[1], f"{where}{key}.")
        return
    kind = marker(expected)
    cls = _kind_class(raw, kind, where) if kind else _record_class(raw, expected, where)
    if cls is None:
        return
    known = ({"kind": str} if kind else {}) | _types(cls)
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
    fields = [f for f in dataclasses.fields(cls) if f.init]
    missing = [f.name for f in fields if f.name not in raw and not _has_default(f)]
    if missing:
        raise ValueError(f"key `{where}{missing[0]}` is missing; it has no default, so give it.")


def _kind_class(raw: Any, kind: Kind, where: str) -> type | None:
    """The record that a table names; None for a solver's bare word and for what is not loaded."""
    if isinstance(raw, str) and kind.name == "solver":
        return None
    check_table(raw, where.rstrip("."))
    word = typing.cast(Mapping, raw).get("kind")
    if not isinstance(word, str):
        raise ValueError(
            f"key `{where}kind` must name a {kind.name.replace('_', ' ')}, but is {word!r}; choose "
            f"one of those that `flowlift list {kind.name}` shows."
        )
    return class_of(kind.name, word, f"key `{where}kind`")


def _record_class(raw: Any, expected: Any, where: str) -> type | None:
    if not (dataclasses.is_dataclass(expected) and isinstance(expected, type)):
        return None
    check_table(raw, where.rstrip(".") or "study")
    return expected


def given_type(expected: Any) -> Any:
    """The type of a value that is there, of one that may be None."""
    options = [a for a in typing.get_args(expected) if a is not type(None)]
    if _is_union(expected) and len(options) == 1:
        return options[0]
    return expected


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


def _types(cls: type) -> dict[str, Any]:
    if issubclass(cls, AbstractChoice):
        return {f.name: f.type for f in dataclasses.fields(cls)}  # pyright: ignore
    return typing.get_type_hints(cls, include_extras=True)


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


def _strict_union(annotation, converter):
    """The first type of a union that takes the value; None is written as nothing."""
    options = typing.get_args(annotation)
    given = [option for option in options if option is not type(None)]

    def structure(value, _):
        if value is None and type(None) in options:
            return None
        if len(given) == 1:
            return converter.structure(value, given[0])
        for option in given:
            with contextlib.suppress(_WrongType, cattrs.BaseValidationError):
                return converter.structure(value, option)
        raise _WrongType(" or ".join(_WORDS.get(option, "a list") for option in given), value)

    return structure


def _structure_kind(converter: cattrs.Converter):
    def structure(value, annotation):
        kind = marker(annotation)
        assert kind is not None
        if isinstance(value, str) and ":" not in value:
            return value
        value = {"kind": value} if isinstance(value, str) else value
        cls, given = class_of(kind.name, value["kind"]), dict(value)
        word = given.pop("kind")
        return Unloaded(word, given) if cls is None else converter.structure(given, cls)

    return structure


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=False)
    for cls in _WORDS:
        converter.register_structure_hook(cls, _strict(cls))
    converter.register_structure_hook_factory(
        lambda t: typing.get_origin(t) is tuple, _strict_sequence
    )
    converter.register_structure_hook_factory(_is_union, _strict_union)
    converter.register_structure_hook_func(lambda t: t == Value, _structure_value)
    converter.register_structure_hook_func(lambda t: t is Any, lambda value, _: value)
    converter.register_structure_hook_func(
        lambda t: marker(t) is not None, _structure_kind(converter)
    )
    return converter


_CONVERTER = _make_converter()
