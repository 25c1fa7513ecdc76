"""Many small arrays as few vectors, so that a program is called with those."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .static import Static, split

# Bytes up to which an array is one of many: copying it costs less than handing it over does.
_SMALL = 1 << 14


class _Part(NamedTuple):
    """Where an array is: in a vector from `first` on, or, with no shape, an array by itself."""

    vector: int
    first: int
    shape: tuple[int, ...] | None


class Packed:
    """As `Static`, of a tree whose small arrays stand one after another, one vector for each type.

    A call of a compiled program takes about a microsecond for each array that it is given, and as
    long again for each that it uses; a lift has sixty of a few dozen numbers.
    """

    def __init__(self, static: Static, parts: Sequence[_Part]):
        """Note them.

        Args:
            static: of the tree.
            parts: where each array of it is.
        """
        self._static, self._parts = static, tuple(parts)
        # Once: it is asked for at every call of a program.
        self._hash = hash((static, self._parts))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packed):
            return NotImplemented
        return self._parts == other._parts and self._static == other._static

    def apart(self, vectors: Sequence[Any]) -> list[Any]:
        """The arrays, in the order of `split`.

        Args:
            vectors: as `packed` gives them; they may be traced.

        Returns:
            The arrays.
        """
        return [_cut(vectors[part.vector], part) for part in self._parts]

    def joined(self, arrays: Sequence[Any]) -> PyTree:
        """The tree with arrays in their places.

        Args:
            arrays: as `packed` gives them.

        Returns:
            The tree.
        """
        return self._static.joined(self.apart(arrays))


def packed(tree: PyTree, beside: PyTree = None) -> tuple[list[Any], Packed]:
    """The arrays of a tree, small ones on the default device together, and the rest.

    Args:
        tree: any pytree whose other leaves are hashable.
        beside: a part of it whose arrays stand in vectors of their own, such as data that many
            models share.

    Returns:
        Vectors and arrays, and what puts them together.
    """
    arrays, static = split(tree)
    device = jax.devices()[0]
    apart = {id(leaf) for leaf in jax.tree.leaves(beside)}
    alike: dict[Any, list[np.ndarray]] = {}
    lengths: dict[Any, int] = {}
    alone, parts = [], []
    # Elsewhere an array would have to come to the host first.
    gathers = device.platform == "cpu"
    for array in arrays:
        if not (gathers and _is_small(array, device)):
            parts.append((None, len(alone), None))
            alone.append(array)
            continue
        here = np.asarray(array)
        key = here.dtype, id(array) in apart
        first = lengths.get(key, 0)
        alike.setdefault(key, []).append(here.ravel())
        lengths[key] = first + here.size
        parts.append((key, first, here.shape))
    places = {key: len(alone) + i for i, key in enumerate(alike)}
    together = jax.device_put([np.concatenate(vectors) for vectors in alike.values()])
    found = [_Part(at, 0, s) if k is None else _Part(places[k], at, s) for k, at, s in parts]
    return [*alone, *together], Packed(static, found)


def _is_small(array: Any, device: Any) -> bool:
    if array.nbytes > _SMALL:
        return False
    if isinstance(array, np.ndarray):
        return True
    # Weakly typed numbers would lose that; keys of random streams have no numbers.
    plain = isinstance(array.dtype, np.dtype) and not array.weak_type
    return plain and array.is_fully_addressable and array.devices() == {device}


def _cut(vector: Any, part: _Part) -> Any:
    if part.shape is None:
        return vector
    size = int(np.prod(part.shape, dtype=int))
    return vector[part.first : part.first + size].reshape(part.shape)
