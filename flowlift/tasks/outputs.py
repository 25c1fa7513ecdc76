"""The outputs of any model for many samples, and one sentence where it cannot give them."""

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from ..protocols import AbstractSamplewise
from ..static import number_kinds


def predict(model: PyTree, inputs: PyTree[Array], apply: Callable | None = None) -> PyTree[Array]:
    """Outputs of any model for many samples.

    Args:
        model: a `Lift` or another `flowlift.protocols.AbstractSamplewise`, any other callable of
            one sample, which is mapped over samples by vmap, or whatever `apply` accepts.
        inputs: arrays (samples, ...).
        apply: None, or apply(model, inputs).

    Returns:
        Outputs (samples, ...).

    Raises:
        ValueError: if the model is neither.
    """
    if apply is not None:
        return apply(model, inputs)
    if isinstance(model, AbstractSamplewise):
        return model.batch(inputs)
    if not callable(model):
        raise ValueError(
            "Argument `model` must be callable on one sample, or declare a method for many by "
            f"flowlift.protocols.AbstractSamplewise, but is {type(model).__name__}; give the task "
            "apply(model, inputs)."
        )
    return jax.vmap(model)(inputs)


def output_shapes(model: PyTree, inputs: PyTree[Array], apply: Callable | None = None) -> Any:
    """Shapes and types of `predict`, traced once for all models of one structure.

    Args:
        model: as for `predict`.
        inputs: as for `predict`, or their shapes.
        apply: as for `predict`.

    Returns:
        The outputs as `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: if the model does not take these inputs.
    """
    given = (model, inputs, apply)
    leaves, structure = jax.tree.flatten(given)
    try:
        return _output_shapes(tuple(map(_shape, leaves)), structure, number_kinds(given))
    except Exception:
        # Parts without a hash, arrays of NumPy that the model needs as numbers, or a model that
        # refuses these inputs: it then says so again.
        return _traced_again(model, inputs, apply)


def _traced_again(model: PyTree, inputs: PyTree[Array], apply: Callable | None) -> Any:
    samples = jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), inputs)
    rule = f"Argument `model` must accept samples of shape {samples}"
    with one_sentence(rule, "change the model or reshape the data"):
        return eqx.filter_eval_shape(lambda m, x: predict(m, x, apply), model, inputs)


@functools.lru_cache(maxsize=64)
def _output_shapes(leaves, structure, kinds) -> Any:
    # By the kinds 1 is told from True.
    del kinds
    return eqx.filter_eval_shape(predict, *jax.tree.unflatten(structure, leaves))


def _shape(leaf: Any) -> Any:
    """The shape of an array, anything else as it is."""
    if not _is_any_array(leaf):
        return leaf
    weak = getattr(leaf, "weak_type", False)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak)


@contextlib.contextmanager
def one_sentence(rule: str, remedy: str) -> Iterator[None]:
    """Whatever is raised inside becomes one sentence: the rule, the cause and its line, a remedy.

    A sentence of ours passes as it is. The traceback through JAX is dropped: what counts of it is
    the last line of the user's own code.

    Args:
        rule: "Argument `x` must ...".
        remedy: what to do.

    Yields:
        Nothing.

    Raises:
        ValueError: the sentence.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("Argument"):
            raise ValueError(str(error)) from None
        raise ValueError(f"{rule}, but {_cause(error)}; {remedy}.") from None


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    said = f": {lines[0].rstrip('. ')}" if lines else ""
    return f"raises {type(error).__name__}{_place(error)}{said}"


_OURS = str(Path(__file__).parents[1])


def _place(error: Exception) -> str:
    """The last line of the user's own code that the error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        f
        for f in frames
        if "site-packages" not in f.filename and not f.filename.startswith((_OURS, "<frozen"))
    ]
    return f" in {Path(theirs[-1].filename).name}, line {theirs[-1].lineno}" if theirs else ""


def _is_any_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
