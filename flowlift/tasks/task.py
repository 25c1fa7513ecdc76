"""A task: the loss L(theta) of a model, with its provenance and the exact facts known of it."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from .losses import AbstractLoss, resolve_loss


class AbstractObjective(eqx.Module):
    """A loss L : model -> R, as a pytree of its data."""

    @abc.abstractmethod
    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """L(model)."""

    @abc.abstractmethod
    def check(self, model: PyTree) -> None:
        """Raise ValueError unless L(model) is defined, without computing it."""


class Supervised(AbstractObjective):
    """L = (1/n) sum_i ell(F(x_i), y_i): the mean over samples of a loss of one sample.

    Attributes:
        inputs: the samples x_i, arrays (samples, ...).
        targets: the targets y_i.
        loss: ell.
        apply: None, or apply(model, inputs) -> outputs for a model that is no callable.
        devices: over which samples are to be spread, see `shard`; none for JAX's default.
    """

    inputs: PyTree[Array]
    targets: PyTree[Array]
    loss: AbstractLoss = eqx.field(static=True)
    apply: Callable | None = eqx.field(static=True, default=None)
    devices: tuple[Any, ...] = eqx.field(static=True, default=())

    def outputs(self, model: PyTree) -> PyTree[Array]:
        """F(x_i) for all samples, (samples, ...)."""
        return predict(model, self.inputs, self.apply)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The mean over samples."""
        return jnp.mean(self.loss.per_sample(self.outputs(model), self.targets))

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets, by shapes alone."""
        outputs = output_shapes(model, self.inputs, self.apply)
        self.loss.check(outputs.shape, self.targets.shape)


class Population(AbstractObjective):
    """A loss in closed form, without samples.

    Attributes:
        function: L(model), differentiable by JAX.
    """

    function: Callable[[PyTree], Float[Array, ""]]

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """L(model)."""
        return self.function(model)

    def check(self, model: PyTree) -> None:
        """Refuse a function that does not return one number.

        Args:
            model: the model.

        Raises:
            ValueError: if L(model) is no scalar.
        """
        result = eqx.filter_eval_shape(self.function, model)
        if getattr(result, "shape", None) != ():
            raise ValueError(
                f"Argument `loss` must return one number, but returns {result}; "
                "average over the samples."
            )


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Attributes:
        name: a short name.
        objective: the loss L.
        provenance: where the data come from, seeds included, enough to make them again.
        facts: exact facts that tests and diagnostics may use, e.g. "least loss".
    """

    name: str
    objective: AbstractObjective
    provenance: Mapping[str, object] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)


def supervised(
    inputs: PyTree,
    targets: Array | np.ndarray,
    loss: str | AbstractLoss | Callable = "squared",
    *,
    name: str = "supervised",
    apply: Callable | None = None,
    provenance: Mapping[str, object] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Task:
    """A task from data.

    Args:
        inputs: samples, an array (samples, ...) or a dict of such arrays.
        targets: targets, (samples, ...).
        loss: "squared" (|F - f*|^2 summed over outputs, no 1/2), "cross-entropy" (logits and
            labels), or ell(output, target) -> scalar of one sample. L is the mean over samples.
        name: a short name.
        apply: None when the model is callable (a method `batch` is used if there is one, otherwise
            the model is mapped over samples by vmap); else apply(model, inputs) -> outputs.
        provenance: where the data come from.
        facts: exact facts known of it.

    Returns:
        The task.

    Raises:
        ValueError: if the data are not finite or their numbers of samples differ or are zero.
    """
    arrays = {"targets": targets}
    leaves = jax.tree_util.tree_leaves_with_path(inputs)
    arrays |= {f"inputs{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    _check_data(arrays)
    objective = Supervised(
        jax.tree.map(jnp.asarray, inputs), jnp.asarray(targets), resolve_loss(loss), apply
    )
    return Task(name, objective, provenance or {}, facts or {})


def population(
    function: Callable[[PyTree], Float[Array, ""]],
    *,
    name: str = "population",
    provenance: Mapping[str, object] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Task:
    """A task with a closed-form loss L(model), without samples.

    Args:
        function: L.
        name: a short name.
        provenance: where the formula comes from.
        facts: exact facts known of it.

    Returns:
        The task.
    """
    return Task(name, Population(function), provenance or {}, facts or {})


def predict(model: PyTree, inputs: PyTree[Array], apply: Callable | None = None) -> PyTree[Array]:
    """Outputs of any model for many samples.

    Args:
        model: a `Lift` (anything with a method `batch`), any other callable of one sample, or
            whatever `apply` accepts.
        inputs: arrays (samples, ...).
        apply: None, or apply(model, inputs).

    Returns:
        Outputs (samples, ...).
    """
    if apply is not None:
        return apply(model, inputs)
    if hasattr(model, "batch"):
        return model.batch(inputs)
    return jax.vmap(model)(inputs)


def _check_data(arrays: Mapping[str, Array | np.ndarray]) -> None:
    lengths = {name: np.shape(array)[:1] for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or next(iter(lengths.values())) in ((), (0,)):
        raise ValueError(
            "Arguments `inputs` and `targets` must hold equally many samples, at least one, on "
            f"their first axis, but hold {lengths}; reshape or drop samples."
        )
    for name, array in arrays.items():
        # Data that are differentiated or batched have no values yet.
        if isinstance(array, Tracer):
            continue
        bad = np.count_nonzero(~np.isfinite(np.asarray(array)))
        if bad:
            raise ValueError(
                f"Argument `{name}` must be finite, but holds {bad} values that are not; "
                "remove or impute them."
            )


def output_shapes(model: PyTree, inputs: PyTree[Array], apply: Callable | None = None) -> Any:
    """Shapes and types of `predict`, traced once for all models of one structure.

    Args:
        model: as for `predict`.
        inputs: as for `predict`.
        apply: as for `predict`.

    Returns:
        The outputs as `jax.ShapeDtypeStruct`.
    """
    arrays, rest = eqx.partition((model, inputs), _is_any_array)
    shapes = jax.eval_shape(lambda: arrays)
    try:
        return _output_shapes(*_flat(shapes), *_flat(rest), apply)
    except TypeError:
        # Parts without a hash, arrays of NumPy that the model needs as numbers, or a model that
        # refuses these inputs: it then says so again.
        return eqx.filter_eval_shape(lambda model: predict(model, inputs, apply), model)


@functools.lru_cache(maxsize=64)
def _output_shapes(shapes, structure, rest, structure_of_rest, apply) -> Any:
    arrays = jax.tree.unflatten(structure, shapes)
    others = jax.tree.unflatten(structure_of_rest, rest)

    def outputs(arrays):
        model, inputs = eqx.combine(arrays, others)
        return predict(model, inputs, apply)

    return eqx.filter_eval_shape(outputs, arrays)


def _flat(tree: PyTree) -> tuple[tuple, Any]:
    leaves, structure = jax.tree.flatten(tree)
    return tuple(leaves), structure


def _is_any_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)
