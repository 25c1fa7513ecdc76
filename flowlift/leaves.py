"""Parts of a model by name: base edges of a lift, paths of any other model's leaves."""

import fnmatch
from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import PyTree


def leaf_names(model: PyTree) -> list[str]:
    """Names of a model's trainable leaves.

    Args:
        model: any pytree; that of a lift has a leaf for each base edge, named `weights.x->h1`.

    Returns:
        Dotted paths, such as `layers.0.weight`, in the order of the leaves.
    """
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array))
    return [_name(path) for path, _ in leaves]


def mask(model: PyTree, patterns: Sequence[str], argument: str) -> PyTree:
    """Which trainable leaves some patterns name.

    Args:
        model: any pytree.
        patterns: whole paths or their ends after a dot; * and ? stand for any letters.
        argument: what the patterns are an argument of, for the message.

    Returns:
        The model with True or False in place of each leaf.

    Raises:
        ValueError: if a pattern names no trainable leaf.
    """
    names = leaf_names(model)
    for pattern in patterns:
        if not any(named_by(name, pattern) for name in names):
            raise ValueError(
                f"Argument `{argument}` must name trainable leaves of the model, but {pattern!r} "
                f"names none of {', '.join(names)}; correct it."
            )

    def named(path, leaf) -> bool:
        return eqx.is_inexact_array(leaf) and any(named_by(_name(path), p) for p in patterns)

    return jax.tree_util.tree_map_with_path(named, model)


def flowing(model: PyTree, frozen: Sequence[str]) -> PyTree:
    """Which leaves flow, as `solve` takes it for `trainable`.

    Args:
        model: any pytree.
        frozen: patterns of those that do not.

    Returns:
        The model with True or False in place of each leaf.

    Raises:
        ValueError: if a pattern names no trainable leaf, or none is left.
    """
    held = mask(model, frozen, "frozen")
    flows = jax.tree.map(lambda leaf, h: eqx.is_inexact_array(leaf) and not h, model, held)
    if not any(jax.tree.leaves(flows)):
        raise ValueError(
            f"Argument `frozen` must leave a leaf that flows, but {list(frozen)} name all of "
            f"{', '.join(leaf_names(model))}; drop one."
        )
    return flows


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def named_by(name: str, pattern: str) -> bool:
    """Whether a pattern names a leaf.

    Args:
        name: the leaf's.
        pattern: a whole path or its end after a dot; * and ? stand for any letters.

    Returns:
        The verdict.
    """
    ends = [name, *(name[i + 1 :] for i, letter in enumerate(name) if letter == ".")]
    return any(fnmatch.fnmatchcase(end, pattern) for end in ends)


def parted(model: PyTree, chosen: PyTree) -> tuple[PyTree, PyTree]:
    """As `equinox.partition`, which goes through a tree of booleans leaf by leaf as trees.

    Args:
        model: any pytree.
        chosen: as for `equinox.partition`.

    Returns:
        The chosen leaves and the others, None where the other has a leaf.
    """
    leaves, structure = jax.tree.flatten(model)
    verdicts, alike = ([], None) if callable(chosen) else jax.tree.flatten(chosen)
    fits = alike is not None and alike == structure
    if not fits or not all(isinstance(verdict, bool) for verdict in verdicts):
        return eqx.partition(model, chosen)
    pairs = list(zip(leaves, verdicts, strict=True))
    ours, others = ([x if v is own else None for x, v in pairs] for own in (True, False))
    return structure.unflatten(ours), structure.unflatten(others)
