"""Every value of a study as a flag: types and help come from the study's own records."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import equinox as eqx
import tyro

from ..studies.kinds import marker
from ..studies.structure import given_type

Record = TypeVar("Record")
_HIDDEN = (tyro.conf.Suppress, tyro.conf.Fixed)
# Tables of tables, which flags could not write: `--set` replaces them.
_NO_FLAGS = ("vary", "alternatives", "observe", "quick", "sources", "rules")


def with_flags(study: Record, flags: Sequence[str], prog: str) -> Record:
    """The study with the values that flags give.

    Args:
        study: the study, whose values are the defaults.
        flags: such as --flow.horizon 10.
        prog: the program's name in its help.

    Returns:
        The changed study.

    Raises:
        ValueError: if a record refuses a value.
        SystemExit: from tyro, for a wrong flag and for help.
    """
    flagged = _flagged(study)
    given = tyro.cli(
        type(flagged),
        default=flagged,
        args=list(flags),
        prog=prog,
        config=(tyro.conf.AvoidSubcommands,),
    )
    return _unflagged(given, study)


def _flagged(record: Any) -> Any:
    """The record as one of a class whose fields have the types of what is there."""
    hints = _hints(type(record))
    values = {
        f.name: _flagged(v) if _is_record(v := getattr(record, f.name)) else v
        for f in dataclasses.fields(record)
        if f.init
    }
    types = {name: _type(name, hints[name], value) for name, value in values.items()}
    # A subclass, in which tyro finds the documentation of the fields.
    body = {"__annotations__": types, "__doc__": type(record).__doc__}
    body |= {name: _default(value) for name, value in values.items()}
    # No plain record derives from equinox's modules, which losses and dynamics are.
    bases = () if isinstance(record, eqx.Module) else (type(record),)
    cls = type(type(record).__name__, bases, body)
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)(**values)


def _default(value: Any) -> Any:
    if _is_record(value) or isinstance(value, dict | list):
        return dataclasses.field(default_factory=lambda: value)
    return value


def _unflagged(flagged: Any, like: Record) -> Record:
    """The record in its own class again, checked by it."""
    values = {}
    for field in dataclasses.fields(typing.cast(Any, like)):
        if field.init:
            value, before = getattr(flagged, field.name), getattr(like, field.name)
            values[field.name] = _unflagged(value, before) if _is_record(before) else value
    return type(like)(**values)


def _type(name: str, hint: Any, value: Any) -> Any:
    if _is_record(value):
        return type(value)
    kind = marker(given_type(hint))
    if kind is not None and isinstance(value, str):
        return str
    of_records = typing.get_origin(hint) is dict and marker(typing.get_args(hint)[1])
    if name in _NO_FLAGS or kind is not None or of_records:
        return Annotated[(Any, *_HIDDEN)]  # pyright: ignore[reportInvalidTypeForm]
    if hint is Any:
        plain = isinstance(value, int | float | str | bool)
        return type(value) if plain else Annotated[(Any, *_HIDDEN)]  # pyright: ignore
    return hint


def _hints(cls: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(cls)}


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
