"""Any value in one line: numbers as numbers, arrays by their type, shape and first numbers."""

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Mapping, Set
from itertools import islice
from typing import Any

# Numbers of an array that are shown whole.
_FEW = 8
# Items of a container that are looked at; more would not fit into a line.
_ITEMS = 40
# Containers within containers.
_DEPTH = 3
# Arrays that stand elsewhere than in this machine's memory are fetched up to this size.
_FETCHED = 4096


def words(value: Any, room: int = 80, *, quoted: bool = False, depth: int = 0) -> str:
    """A value in one line.

    Args:
        value: anything.
        room: how many letters there are at most.
        quoted: whether texts stand in quotation marks, as they do in containers.
        depth: how many containers the value stands in.

    Returns:
        The line, without addresses of objects. Cost: a few numbers of each array, a few items of
        each container, whatever their size.
    """
    try:
        return cut(_words(value, room, quoted, depth), room)
    except Exception:
        # Values of others may refuse anything; their type does not.
        return cut(type(value).__name__, room)


def number(value: Any) -> str:
    """A number with six digits; integers whole.

    Args:
        value: a number of Python, NumPy or JAX.

    Returns:
        The number.
    """
    if isinstance(value, bool | int | str):
        return str(value)
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float | complex):
        return f"{value:.6g}"
    return str(value)


def cut(text: str, room: int) -> str:
    """A text of one line, and of at most so many letters."""
    # Any break, and letters that move the cursor or cannot be shown.
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split(" "))
    return line if len(line) <= room else line[: max(0, room - 3)] + "..."


def type_and_shape(value: Any) -> str:
    """The type and shape of an array, such as float64 (3, 4).

    Args:
        value: an array, or what has a dtype and a shape.

    Returns:
        Both.
    """
    return f"{value.dtype} {tuple(value.shape)}"


def _words(value: Any, room: int, quoted: bool, depth: int) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, enum.Enum):
        return str(value.value) if isinstance(value.value, str) else str(value.name)
    if isinstance(value, str):
        return repr(value) if quoted else value
    if isinstance(value, int | float | complex):
        return number(value)
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type):
        return _array(value)
    if isinstance(value, Mapping | list | tuple | Set):
        return _container(value, room, depth)
    return _object(value, room, depth)


def _array(value: Any) -> str:
    about = type_and_shape(value)
    here = near(value)
    if here is None:
        return about
    if here.ndim == 0:
        return number(here[()])
    if here.size == 0:
        return f"none, {about}"
    if here.size <= _FEW:
        return _nested(here.tolist())
    # By index, so that no copy is made of what is not contiguous.
    ends = [number(here.flat[i]) for i in (0, 1, here.size - 1)]
    return f"[{ends[0]}, {ends[1]}, ..., {ends[2]}] {about}"


def near(value: Any) -> Any:
    """An array as one of NumPy, if its numbers can be read without copying much.

    Args:
        value: an array of NumPy or JAX, or what is traced or described like one.

    Returns:
        The array, which shares its memory on a CPU; None for traced, deleted and large ones
        elsewhere.
    """
    numpy, jax = sys.modules.get("numpy"), sys.modules.get("jax")
    if numpy is None or isinstance(value, numpy.ndarray | numpy.generic):
        return numpy and numpy.asarray(value)
    if jax is None or not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
        return None
    if value.is_deleted() or not value.is_fully_addressable:
        return None
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    devices = list(value.devices())
    near = len(devices) == 1 and devices[0].platform == "cpu"
    return numpy.asarray(value) if near or value.size <= _FETCHED else None


def _nested(items: Any) -> str:
    if isinstance(items, list):
        return f"[{', '.join(map(_nested, items))}]"
    return number(items)


def _container(value: Any, room: int, depth: int) -> str:
    open_, close = ("{", "}") if isinstance(value, Mapping | Set) else ("[", "]")
    open_, close = ("(", ")") if isinstance(value, tuple) else (open_, close)
    if depth >= _DEPTH:
        return f"{open_}{len(value)} items{close}" if len(value) else open_ + close
    inner = functools.partial(words, room=room, quoted=True, depth=depth + 1)
    if isinstance(value, Mapping):
        parts = [f"{words(k)}: {inner(v)}" for k, v in islice(value.items(), _ITEMS)]
    else:
        parts = [inner(item) for item in islice(value, _ITEMS)]
    text, left = ", ".join(parts), len(value) - len(parts)
    return f"{open_}{text}{f', ... {left} more' if left else ''}{close}"


def _object(value: Any, room: int, depth: int) -> str:
    cls = type(value)
    if hasattr(cls, "_card_"):
        return cut(repr(value).partition("\n")[0], room)
    if isinstance(value, type) or inspect.isroutine(value):
        return str(getattr(value, "__qualname__", cls.__name__))
    if isinstance(value, functools.partial):
        return _call(words(value.func), dict(enumerate(value.args)) | value.keywords, room, depth)
    if hasattr(cls, "sizes") and hasattr(cls, "data_vars"):
        return f"{cls.__name__} {words(dict(value.sizes))}"
    if hasattr(cls, "iloc") and hasattr(cls, "columns"):
        rows, columns = value.shape
        return f"{cls.__name__} of {rows} rows, {columns} columns"
    if cls.__name__ == "EnumerationItem":
        # Of equinox: str says its name, its fields a number.
        return str(value)
    if dataclasses.is_dataclass(value) and cls.__str__ is object.__str__:
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value) if f.repr}
        return _call(cls.__name__, fields, room, depth)
    told = str(value)
    return cls.__name__ if " at 0x" in told else told


def _call(name: str, given: Mapping[Any, Any], room: int, depth: int) -> str:
    if depth >= _DEPTH:
        return f"{name}(...)" if given else f"{name}()"
    inner = functools.partial(words, room=room, quoted=True, depth=depth + 1)
    parts = [inner(v) if isinstance(k, int) else f"{k}={inner(v)}" for k, v in given.items()]
    return f"{name}({', '.join(parts)})"
