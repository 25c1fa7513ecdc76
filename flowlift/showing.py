"""How objects show themselves: a title and rows, from which `repr` and a notebook's HTML are made.

A class that is decorated by `shows_itself` may say both by a method `_card_(self) -> Card`; else
its fields are its rows. Nothing here imports JAX, NumPy or matplotlib: what is shown is asked for
what it has. No array is read through, however long it is; traced ones show their types and shapes.
"""

import dataclasses
import functools
import html
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from .words import cut, words

# A notebook shows so many lines of text without a scroll bar, and a terminal so many letters.
LINES, COLUMNS = 15, 100
# Rows of a table that are still looked at.
_ROWS = 60
# Letters of a value in a table.
_CELL = 160
# Tables within tables.
_DEPTH = 2
# Names are put under one another up to this width: a longer one stands out alone.
_NAMES = 24

Class = TypeVar("Class")


class Card(NamedTuple):
    """What an object shows of itself.

    Attributes:
        title: one line.
        rows: names with values; a value is shown as `words` says it.
        figure: makes a drawing for HTML, an SVG element, when it is asked for.
    """

    title: str
    rows: Sequence[tuple[str, Any]]
    figure: Callable[[], str] | None = None


def shows_itself(cls: type[Class]) -> type[Class]:
    """A class whose objects show themselves, as text and in a notebook.

    Nothing else of the class changes: neither fields, nor equality, nor how JAX sees it.

    Args:
        cls: a class; a dataclass or a module of equinox, unless it has `_card_`.

    Returns:
        The same class.
    """
    cls.__repr__ = _text  # pyright: ignore[reportAttributeAccessIssue]
    cls._repr_html_ = _html  # pyright: ignore[reportAttributeAccessIssue]
    return cls


def card_of(value: Any) -> Card | None:
    """What an object shows of itself; None where it has nothing of its own to show.

    Args:
        value: any object.

    Returns:
        The card: that of `_card_`, if that can be said. Where values are traced, deleted or not
        set yet it cannot, and the fields are shown as far as they are there: a `repr` that fails
        would hide the error that it is printed for.
    """
    own = getattr(type(value), "_card_", None)
    if own is not None:
        try:
            return own(value)
        except Exception:
            # Said above: the fields serve.
            pass
    rows = list(_fields(value))
    return (
        Card(type(value).__name__, rows) if rows or own or dataclasses.is_dataclass(value) else None
    )


def not_by_default(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that differ from their defaults.

    Args:
        value: the object.

    Returns:
        Names with values.
    """
    found = []
    for field in dataclasses.fields(value):
        default, make = field.default, field.default_factory
        default = default if make is dataclasses.MISSING else make()
        given = getattr(value, field.name)
        if default is dataclasses.MISSING or given != default:
            found.append((field.name, given))
    return found


def text_of(card: Card) -> str:
    """A card as text: at most `LINES` lines of at most `COLUMNS` letters.

    Args:
        card: the card.

    Returns:
        The lines.
    """
    lines = [cut(card.title, COLUMNS)]
    rows = list(card.rows)
    room = LINES - 1
    left = len(rows) - room
    kept = rows[: room - 1] if left > 0 else rows
    width = max((len(name) for name, _ in kept if len(name) <= _NAMES), default=0)
    for name, value in kept:
        start = f"  {name:<{width}}  "
        lines.append(cut((start + words(value, max(8, COLUMNS - len(start)))).rstrip(), COLUMNS))
    if left > 0:
        lines.append(f"  ... and {len(rows) - len(kept)} more")
    return "\n".join(lines)


def html_of(card: Card, depth: int = 0) -> str:
    """A card as an HTML table, with its drawing below.

    Args:
        card: the card.
        depth: how many tables this one stands in.

    Returns:
        One well-formed element.
    """
    rows, left = list(islice(card.rows, _ROWS)), len(card.rows) - _ROWS
    body = "".join(_row(name, value, depth) for name, value in rows)
    if left > 0:
        body += f'<tr><td colspan="2">... and {left} more</td></tr>'
    head = f'<tr><th colspan="2" style="text-align:left">{_escaped(card.title)}</th></tr>'
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return f'<div class="flowlift">{table}{_figure(card)}</div>'


def _row(name: str, value: Any, depth: int) -> str:
    card = card_of(value) if depth < _DEPTH else None
    short = _escaped(words(value, _CELL))
    inner = short
    ours = getattr(type(value), "_repr_html_", None) is _html
    if card is not None and card.rows and ours:
        inner = f"<details><summary>{short}</summary>{html_of(card, depth + 1)}</details>"
    left = "text-align:left;vertical-align:top"
    head = f'<th style="{left};white-space:nowrap">{_escaped(name)}</th>'
    return f'<tr>{head}<td style="{left}">{inner}</td></tr>'


def _escaped(line: str) -> str:
    return html.escape(cut(line, _CELL))


def _figure(card: Card) -> str:
    if card.figure is None:
        return ""
    try:
        return f'<div style="overflow-x:auto">{card.figure()}</div>'
    except Exception:
        # A table without its drawing, rather than none.
        return ""


def _text(self: Any) -> str:
    """What there is to see, as text."""
    card = card_of(self)
    if card is None:
        return object.__repr__(self)
    if not hasattr(type(self), "_card_"):
        inside = ", ".join(f"{n}={words(v, COLUMNS, quoted=True)}" for n, v in card.rows)
        line = f"{card.title}({inside})"
        if len(line) <= COLUMNS:
            return line
    return text_of(card)


def _html(self: Any) -> str:
    """What there is to see, as a table for notebooks."""
    card = card_of(self)
    return f"<pre>{html.escape(repr(self))}</pre>" if card is None else html_of(card)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields that a user may read, as far as they are set."""
    for name in _names(type(value)):
        try:
            yield name, getattr(value, name)
        except AttributeError:
            continue


@functools.lru_cache(maxsize=1024)
def _names(cls: type) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(cls):
        return ()
    return tuple(f.name for f in dataclasses.fields(cls) if f.repr and not f.name.startswith("_"))
