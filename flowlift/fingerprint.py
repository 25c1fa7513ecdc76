"""A digest of what determines a computation: data, static parts, and code.

`fingerprint` answers whether two values would compute the same numbers, in this process or in
another: equal values have equal digests whatever the process, its hash seed or the order in which
dictionaries were filled, and every change of an array's bits, of a field, of a constant, of code or
of a function that it calls changes the digest. What cannot be looked into is refused by name,
unless the caller says what it is.

Code is known in three ways, by where it comes from (`origin`):

- Python and installed packages: name and version, with the qualified name;
- packages under development (known to the installation, but not inside it): the same, with the
  SHA-256 of all their source files;
- all else, such as scripts, notebooks and modules in a folder: the compiled code itself, without
  line numbers, with defaults, closures, and the globals that it reads, followed recursively.
"""

import copyreg
import dataclasses
import dis
import enum
import functools
import struct
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer

from .origin import hash_parts, home_module, origin

# Where a class keeps what says nothing of its behaviour, or differs from process to process.
_SILENT = frozenset(
    {"__doc__", "__module__", "__qualname__", "__name__", "__weakref__", "__dict__"}
    | {"__annotations__", "__abstractmethods__", "_abc_impl", "__dataclass_params__"}
    | {"__match_args__", "__firstlineno__", "__static_attributes__", "__parameters__"}
    | {"__orig_bases__", "__annotate__", "__annotations_cache__", "__type_params__", "_jit_info"}
    | {"__slotnames__"}
)
_BY_DATACLASSES = frozenset(
    {"__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__"}
    | {"__setattr__", "__delattr__", "__replace__"}
)
_ATOMS = (type(None), bool, int, str, bytes, types.EllipsisType, types.NotImplementedType, range)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_BUILTINS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
)


class Unidentified(ValueError):
    """Raised for a part of a value that nothing can be known about."""


def fingerprint(value: Any, *, given: str | None = None) -> str:
    """A digest of a value with all that determines what it computes.

    Arrays count by dtype, shape, weak type and bytes (typed PRNG keys by implementation and data);
    containers, dataclasses and other objects by class and content; functions, jitted ones, partial
    ones, methods and classes by their code. Mappings count whatever their order, except ordered
    ones. Values that a class caches by `functools.cached_property` do not count.

    Args:
        value: any Python value, such as a pytree with its static parts.
        given: what the caller says of the parts that cannot be known; it then stands for them. None
            refuses such parts.

    Returns:
        64 hexadecimal digits. Cost: one pass over all bytes.

    Raises:
        Unidentified: for a part that cannot be known, such as a generator, an open file or a traced
            array, by its place in the value.
    """
    words = [_Reader(given).digest(value, "value")]
    words += [] if given is None else [_atom(given)]
    return hash_parts(b"fingerprint", *words).hex()


def _atom(value: Any) -> bytes:
    return hash_parts(
        b"atom", type(value).__name__.encode(), repr(value).encode("utf-8", "replace")
    )


class _Reader:
    """One reading of a value; remembers what it has read, and what it is reading."""

    def __init__(self, given: str | None):
        self._given = given
        # By identity; the objects are kept alive, so that no other takes the place of one.
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: dict[int, int] = {}
        # The outermost open object that was met again inside the one being read.
        self._lowest = sys.maxsize

    def digest(self, value: Any, path: str) -> bytes:
        """The digest of a part.

        Args:
            value: the part.
            path: its place, for messages.

        Returns:
            32 bytes.
        """
        if isinstance(value, _ATOMS) and type(value) in _ATOMS:
            return _atom(value)
        key = id(value)
        if key in self._known:
            return self._known[key][1]
        if key in self._open:
            # A function that calls itself, or an object that holds itself.
            self._lowest = min(self._lowest, self._open[key])
            return hash_parts(b"again", str(len(self._open) - self._open[key]).encode())
        before, self._lowest = self._lowest, sys.maxsize
        depth = self._open[key] = len(self._open)
        try:
            found = self._read(value, path)
        finally:
            del self._open[key]
        # Inside a cycle a digest depends on where the cycle was entered.
        if self._lowest >= depth:
            self._known[key] = (value, found)
            self._lowest = sys.maxsize
        self._lowest = min(before, self._lowest)
        return found

    def _read(self, value: Any, path: str) -> bytes:
        for kinds, read in _KINDS:
            if isinstance(value, kinds):
                return hash_parts(read.__name__.encode(), *read(self, value, path))
        return hash_parts(b"object", *self._object(value, path))

    def _unknown(self, value: Any, path: str, why: str) -> Iterator[bytes]:
        if self._given is None:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise Unidentified(
                f"Argument `identity` must say what {path} is, because it is a {kind}, of which "
                f"nothing can be known ({why}); give a text that changes whenever it changes."
            )
        yield b"given"

    def _number(self, value: float | complex, path: str) -> Iterator[bytes]:
        # Bits, because -0.0 == 0.0 and nan != nan.
        yield type(value).__name__.encode()
        number = complex(value)
        yield struct.pack("<dd", number.real, number.imag)

    def _enum(self, value: enum.Enum, path: str) -> Iterator[bytes]:
        yield self.digest(type(value), f"the class of {path}")
        yield str(value.name).encode()

    def _dtype(self, value: np.dtype, path: str) -> Iterator[bytes]:
        yield repr(value).encode()

    def _array(self, value: Any, path: str) -> Iterator[bytes]:
        if isinstance(value, Tracer):
            yield from self._unknown(value, path, "it is being traced")
            return
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            yield str(jax.random.key_impl(value)).encode()
            value = jax.random.key_data(value)
        yield str(bool(getattr(value, "weak_type", False))).encode()
        array = np.asarray(value)
        yield repr((array.shape, array.dtype)).encode()
        if array.dtype.hasobject:
            yield from self._sequence(array.ravel().tolist(), path)
        else:
            yield np.ascontiguousarray(array).tobytes()

    def _sequence(self, value: Iterable, path: str) -> Iterator[bytes]:
        yield from self._typed(value, path)
        for i, item in enumerate(value):
            yield self.digest(item, f"{path}[{i}]")

    def _set(self, value: Iterable, path: str) -> Iterator[bytes]:
        yield from self._typed(value, path)
        yield from sorted(self.digest(item, f"an item of {path}") for item in value)

    def _mapping(self, value: Any, path: str) -> Iterator[bytes]:
        yield from self._typed(value, path)
        items = [
            self.digest(key, f"a key of {path}") + self.digest(item, f"{path}[{key!r}]")
            for key, item in value.items()
        ]
        yield from sorted(items) if type(value) in _UNORDERED else items

    def _typed(self, value: Any, path: str) -> Iterator[bytes]:
        """The class of a container, with what else an instance of a subclass carries."""
        cls = type(value)
        yield cls.__name__.encode()
        if cls not in _PLAIN:
            yield self.digest(cls, f"the class of {path}")
            yield from self._state(value, path)

    def _slice(self, value: slice, path: str) -> Iterator[bytes]:
        yield from self._sequence((value.start, value.stop, value.step), path)

    def _module(self, value: types.ModuleType, path: str) -> Iterator[bytes]:
        where = origin(value.__name__)
        yield from (value.__name__.encode(), repr(where).encode())
        if where.known:
            return
        # A module of one's own counts by its source and by those that it imports in turn.
        for name, item in sorted(vars(value).items()):
            home = item.__name__ if isinstance(item, types.ModuleType) else home_module(item)
            if home and home != value.__name__ and not origin(home).known:
                yield self.digest(sys.modules.get(home), f"{path}.{name}")

    def _class(self, value: type, path: str) -> Iterator[bytes]:
        where = origin(value.__module__)
        yield from (value.__module__.encode(), value.__qualname__.encode())
        if where.known:
            yield repr(where).encode()
            return
        for base in value.__bases__:
            yield self.digest(base, f"a base of {path}")
        for name, item in sorted(vars(value).items()):
            if name in _SILENT or isinstance(item, _DESCRIPTORS) or _generated(item):
                continue
            yield from (name.encode(), self.digest(item, f"{path}.{name}"))

    def _field(self, value: dataclasses.Field, path: str) -> Iterator[bytes]:
        yield from (str(value.name).encode(), repr((value.init, value.kw_only)).encode())
        for default in (value.default, value.default_factory):
            absent = default is dataclasses.MISSING
            yield b"" if absent else self.digest(default, f"the default of {path}")

    def _function(self, value: types.FunctionType, path: str) -> Iterator[bytes]:
        where = origin(str(value.__globals__.get("__name__", "")))
        yield value.__qualname__.encode()
        yield repr(where).encode() if where.known else b"own"
        yield self.digest(value.__code__, path)
        yield self.digest(value.__defaults__, f"the defaults of {path}")
        yield self.digest(value.__kwdefaults__, f"the defaults of {path}")
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:
                yield b"empty"
                continue
            yield self.digest(content, f"{name!r} in the closure of {path}")
        yield from self._state(value, path)
        if not where.known:
            yield from self._globals(value, path)

    def _globals(self, value: types.FunctionType, path: str) -> Iterator[bytes]:
        """What a function reads from its module, and from modules of one's own."""
        loaded, attributes = _names(value.__code__)
        for name in sorted(loaded & value.__globals__.keys()):
            item = value.__globals__[name]
            yield from (name.encode(), self.digest(item, f"{name!r}, which {path} reads"))
            if isinstance(item, types.ModuleType) and not origin(item.__name__).known:
                for used in sorted(attributes & vars(item).keys()):
                    where = f"{name}.{used}, which {path} reads"
                    yield from (used.encode(), self.digest(vars(item)[used], where))

    def _code(self, value: types.CodeType, path: str) -> Iterator[bytes]:
        counts = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        yield from (value.co_code, repr((counts, value.co_flags, names)).encode())
        yield getattr(value, "co_exceptiontable", b"")
        yield from self._sequence(value.co_consts, path)

    def _method(self, value: types.MethodType, path: str) -> Iterator[bytes]:
        yield self.digest(value.__func__, path)
        yield self.digest(value.__self__, f"the object of {path}")

    def _builtin(self, value: Any, path: str) -> Iterator[bytes]:
        yield value.__qualname__.encode()
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        yield str(getattr(value, "__module__", None)).encode()
        yield self.digest(owner, f"the object of {path}")

    def _partial(self, value: functools.partial, path: str) -> Iterator[bytes]:
        yield from self._sequence((value.func, value.args, value.keywords), path)

    def _wrapper(self, value: Any, path: str) -> Iterator[bytes]:
        # A property, a static or class method, a cached one: the functions inside.
        names = ("fget", "fset", "func", "__func__")
        for name in names:
            yield self.digest(getattr(value, name, None), path)

    def _reference(self, value: weakref.ReferenceType, path: str) -> Iterator[bytes]:
        yield self.digest(value(), path)

    def _wrapped(self, value: Any, path: str) -> Iterator[bytes]:
        # A jitted or a cached function computes what its function does.
        yield self.digest(value.__wrapped__, path)

    def _object(self, value: Any, path: str) -> Iterator[bytes]:
        """Any other object: its content, or what it is pickled by where its class says how."""
        cls = type(value)
        yield self.digest(cls, f"the class of {path}")
        try:
            # Refuses what keeps something that Python cannot see, such as an open file.
            pickled = copyreg.dispatch_table.get(cls, lambda v: v.__reduce_ex__(4))(value)
        except Exception as error:
            yield from self._unknown(value, path, str(error))
            return
        if isinstance(pickled, str):
            yield pickled.encode()
        elif pickled[:2] == (_newobj, (cls,)) and cls.__getstate__ is object.__getstate__:
            yield from self._state(value, path)
        else:
            for part in pickled:
                known = tuple(part) if isinstance(part, Iterator) else part
                yield self.digest(known, f"what pickles {path}")

    def _state(self, value: Any, path: str) -> Iterator[bytes]:
        cls = type(value)
        state = dict(getattr(value, "__dict__", {}))
        state |= {name: getattr(value, name) for name in _slots(cls) if hasattr(value, name)}
        for name, item in sorted(state.items()):
            if name not in _SILENT and not _is_cached(cls, name):
                yield from (name.encode(), self.digest(item, f"{path}.{name}"))


# Asked of the same few classes in every reading; the number bounds how many are kept alive.
@functools.lru_cache(maxsize=1024)
def _slots(cls: type) -> frozenset[str]:
    found = set()
    for c in cls.__mro__:
        slots = vars(c).get("__slots__", ())
        found |= {slots} if isinstance(slots, str) else set(slots)
    return frozenset(found - _SILENT)


def _is_cached(cls: type, name: str) -> bool:
    """Whether a class computes an attribute once: the first class that has it decides."""
    for c in cls.__mro__:
        if name in vars(c):
            return isinstance(vars(c)[name], functools.cached_property)
    return False


def _generated(item: Any) -> bool:
    """Whether `dataclasses` wrote a method: its fields say the same."""
    if not isinstance(item, types.FunctionType) or item.__code__.co_filename != "<string>":
        return False
    return item.__name__ in _BY_DATACLASSES


def _names(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Names that code, with what is defined inside, reads as globals, and all names it uses."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    loaded = {i.argval for i in dis.get_instructions(code) if i.opname in loads}
    used = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            both = _names(inner)
            loaded, used = loaded | both[0], used | both[1]
    return loaded, used


# What the default of pickling calls; it has no public name.
_newobj = object().__reduce_ex__(4)[0]
_PLAIN = (list, tuple, set, frozenset, dict, types.MappingProxyType)
_UNORDERED = (dict, types.MappingProxyType)
# The first kind that fits reads a value.
_KINDS: tuple[tuple[Any, Callable], ...] = (
    (enum.Enum, _Reader._enum),
    ((float, complex), _Reader._number),
    ((np.ndarray, np.generic, jax.Array), _Reader._array),
    (np.dtype, _Reader._dtype),
    (dict, _Reader._mapping),
    (types.MappingProxyType, _Reader._mapping),
    ((list, tuple), _Reader._sequence),
    ((set, frozenset), _Reader._set),
    (slice, _Reader._slice),
    (types.ModuleType, _Reader._module),
    (types.FunctionType, _Reader._function),
    (types.CodeType, _Reader._code),
    (types.MethodType, _Reader._method),
    (_BUILTINS, _Reader._builtin),
    (functools.partial, _Reader._partial),
    ((property, classmethod, staticmethod, functools.cached_property), _Reader._wrapper),
    ((type(functools.cache(_slots)), type(jax.jit(_slots))), _Reader._wrapped),
    (weakref.ReferenceType, _Reader._reference),
    (dataclasses.Field, _Reader._field),
    (type, _Reader._class),
)
