"""What a study names, in words: "an MLP (2 inputs, depth 2)" for Mlp(inputs=2, depth=2)."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ..studies.kinds import kind_of
from ..studies.structure import unstructured


def phrase_of(value: Any, kind: str) -> str:
    """A module, a task or a law with what is particular to it in brackets.

    Args:
        value: the choice of a study.
        kind: which kind it is, such as "module".

    Returns:
        The words: of a law that has a `phrase`, that one; of a built-in, its name without an
        article; of other code, which kind it is and where it stands.
    """
    own = getattr(type(value), "phrase", "")
    if own:
        return own.format(**vars(value))
    name = _named(kind_of(value, kind), kind)
    given = unstructured(value)
    given.pop("kind", None)
    told = [_told(key, item) for key, item in given.items() if not _as_ever(value, key, item)]
    inside = "; ".join(told) if any("," in word for word in told) else ", ".join(told)
    return f"{name}{f' ({inside})' if inside else ''}"


def with_article(phrase: str) -> str:
    """With "a" or "an": of capitals that are read one by one, by the first one's name.

    What has an article keeps it.

    Args:
        phrase: as given by `phrase_of`.

    Returns:
        The phrase with its article.
    """
    if phrase.startswith("the "):
        return phrase
    first = re.split(r"\W", phrase)[0]
    vowel = first[:1] in ("AEFHILMNORSX" if first.isupper() else "aeioAEIO")
    return f"{'an' if vowel else 'a'} {phrase}"


def _named(word: str, kind: str = "") -> str:
    source, _, name = word.rpartition(":")
    if source:
        return f"the {kind.replace('_', ' ')} {name} of {source}"
    return " ".join(part.upper() if _is_letters(part) else part for part in name.split("_"))


def _is_letters(part: str) -> bool:
    """Whether a part of a name can only be spelled, as mlp or cnn1d."""
    return re.search("[aeiouy]", part) is None


def _as_ever(value: Any, key: str, item: Any) -> bool:
    """Whether a field says nothing: a default that switches something off, or settles a detail."""
    fields = {f.name: f.default for f in dataclasses.fields(value)} if _is_record(value) else {}
    if item is None or item in ({}, []):
        return True
    default = fields.get(key, dataclasses.MISSING)
    default = list(default) if isinstance(default, tuple) else default
    plain = isinstance(item, bool | list | Mapping) or item == 0
    return plain and item == default


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _told(key: str, item: Any) -> str:
    name = key.replace("_", " ")
    if isinstance(item, bool):
        return name if item else f"no {name}"
    if isinstance(item, int) and name.endswith("s") and not name.endswith("ss"):
        return f"{item} {name if item != 1 else name[:-1]}"
    return f"{name} {_value(item)}"


def _value(item: Any) -> str:
    if isinstance(item, Mapping) and "kind" in item:
        rest = ", ".join(_told(k, v) for k, v in item.items() if k != "kind")
        return f"{_named(str(item['kind']))}{f' ({rest})' if rest else ''}"
    if isinstance(item, Mapping):
        return ", ".join(f"{key}: {_value(v)}" for key, v in item.items())
    if isinstance(item, list | tuple):
        return f"({', '.join(map(_value, item))})"
    return f"{item:g}" if isinstance(item, float) else str(item)
