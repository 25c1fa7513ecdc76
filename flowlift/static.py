"""What of a model and a task is no array: by it compiled programs are known."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree


def number_kinds(tree: PyTree) -> tuple[str, ...]:
    """Types and values of the Python numbers in a tree, static fields included, in their order.

    Args:
        tree: any pytree.

    Returns:
        A text for each, such as "bool True"; different for numbers that Python takes for equal.
    """
    return tuple(_kinds(tree, set()))


def _kinds(node: Any, above: set[int]) -> Iterator[str]:
    if isinstance(node, bool | int | float | complex):
        yield f"{type(node).__name__} {node!r}"
    elif id(node) not in above:
        # A node may hold itself.
        for part in _parts(node):
            yield from _kinds(part, above | {id(node)})


def _parts(node: Any) -> tuple[Any, ...]:
    if isinstance(node, tuple | list):
        return tuple(node)
    if isinstance(node, dict):
        return tuple(node.values())
    if isinstance(node, functools.partial):
        return (node.func, node.args, node.keywords)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return tuple(getattr(node, f.name, None) for f in dataclasses.fields(node))
    return ()


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
