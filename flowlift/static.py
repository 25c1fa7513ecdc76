"""What of a model and a task is no array: by it compiled programs are known."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree


def number_kinds(tree: PyTree) -> tuple[str, ...]:
    """Types and values of the Python numbers in a tree, static fields included, in their order.

    Args:
        tree: any pytree.

    Returns:
        A text for each, such as "bool True"; different for numbers that Python takes for equal.
    """
    found: list[str] = []
    _collect(tree, (), found)
    return tuple(found)


def _collect(node: Any, above: tuple[int, ...], found: list[str]) -> None:
    if isinstance(node, bool | int | float | complex):
        found.append(f"{type(node).__name__} {node!r}")
        return
    parts = _parts(node)
    # A node may hold itself.
    if parts and id(node) not in above:
        for part in parts:
            _collect(part, (*above, id(node)), found)


def _parts(node: Any) -> tuple[Any, ...]:
    if isinstance(node, tuple | list):
        return tuple(node)
    if isinstance(node, dict):
        return tuple(node.values())
    if isinstance(node, functools.partial):
        return (node.func, node.args, node.keywords)
    names = _fields(type(node))
    # Equinox wraps what is read as an attribute, which takes longer than all else here.
    own = getattr(node, "__dict__", {}) if names else {}
    return tuple(own[name] if name in own else getattr(node, name, None) for name in names)


@functools.lru_cache(maxsize=1024)
def _fields(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else ()


def check_hashable(argument: str, tree: PyTree) -> None:
    """Refuse what no compiled program can be known by.

    Args:
        argument: the argument that holds the tree, for the message.
        tree: any pytree.

    Raises:
        ValueError: for a leaf that is no array and not hashable.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if eqx.is_array(leaf):
            continue
        try:
            hash(leaf)
        except TypeError as error:
            raise ValueError(
                f"Argument `{argument}` must hold arrays and hashable objects, but its part "
                f"{jax.tree_util.keystr(path)} is not ({error}); give its class __hash__, or make "
                "it an array."
            ) from None


class Static:
    """The structure of a tree and its leaves that are no arrays: by it programs are shared."""

    def __init__(self, treedef: Any, others: Sequence[Any]):
        """Note them.

        Args:
            treedef: the structure.
            others: the leaves, a mark in place of each array; hashable.
        """
        self._treedef, self._others = treedef, tuple(others)
        self._hash = hash((treedef, self._others))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        return self._treedef == other._treedef and self._others == other._others

    def joined(self, arrays: Sequence[Any]) -> PyTree:
        """The tree with arrays in their places.

        Args:
            arrays: in the order of `split`.

        Returns:
            The tree.
        """
        given = iter(arrays)
        leaves = [next(given) if leaf is _ARRAY else leaf for leaf in self._others]
        return jax.tree.unflatten(self._treedef, leaves)


def split(tree: PyTree) -> tuple[list[Any], Static]:
    """The arrays of a tree, and the rest.

    Args:
        tree: any pytree whose other leaves are hashable.

    Returns:
        Both; `Static.joined` puts them together.
    """
    leaves, treedef = jax.tree.flatten(tree)
    # NumPy's too: a flow that is read from a file has its memory in those.
    known = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    marked = [_ARRAY if array else leaf for leaf, array in zip(leaves, known, strict=True)]
    return [leaf for leaf, array in zip(leaves, known, strict=True) if array], Static(
        treedef, marked
    )


# Where a leaf is an array.
_ARRAY = object()
