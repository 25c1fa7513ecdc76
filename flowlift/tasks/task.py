"""A task: the loss L(theta) of a model, with its provenance and the exact facts known of it."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from ..compilations import keep_compilations
from ..numbers import plain_fields
from ..showing import Card, shows_itself
from .losses import AbstractLoss, resolve_loss
from .outputs import one_sentence, output_shapes, predict


@shows_itself
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

    The loss and `apply` are data where they are equinox modules: two instances of one class with
    arrays of equal shapes share one compilation.

    Attributes:
        inputs: the samples x_i, arrays (samples, ...).
        targets: the targets y_i.
        loss: ell.
        apply: None, or apply(model, inputs) -> outputs for a model that is no callable.
        devices: over which samples are to be spread, see `shard`; none for JAX's default.
        samplewise: whether `apply` is said to act on each sample by itself.
    """

    inputs: PyTree[Array]
    targets: PyTree[Array]
    loss: AbstractLoss
    apply: Callable | None = None
    devices: tuple[Any, ...] = eqx.field(static=True, default=())
    samplewise: bool = eqx.field(static=True, default=False)

    @property
    def separable(self) -> bool:
        """Whether samples are known to act each by itself, so that they may be cut into chunks.

        Without `apply` they do by construction (vmap), or as the model declares.
        """
        return self.apply is None or self.samplewise

    def outputs(self, model: PyTree) -> PyTree[Array]:
        """F(x_i) for all samples, (samples, ...)."""
        return predict(model, self.inputs, self.apply)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The mean over samples."""
        return jnp.mean(self.loss.per_sample(self.outputs(model), self.targets))

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets; nothing is computed.

        Args:
            model: the model.

        Raises:
            ValueError: if the model does not take the inputs, does not return one array with an
                output for each sample, or the loss does not take the outputs and targets.
        """
        check_outputs(self.loss, output_shapes(model, self.inputs, self.apply), self.targets)


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
        """Refuse a function that does not return one real number.

        Args:
            model: the model.

        Raises:
            ValueError: if L(model) is anything else.
        """
        check_value(self, model)


def check_outputs(loss: AbstractLoss, outputs: Any, targets: Array) -> None:
    """Refuse outputs that a loss cannot compare with the targets, by shapes, types and labels.

    Args:
        loss: ell.
        outputs: what the model returns, as shapes and types.
        targets: the targets.

    Raises:
        ValueError: if it cannot.
    """
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        raise ValueError(
            f"Argument `model` must return one array, but returns {_named(outputs)}; return the "
            "outputs alone, or give the task apply(model, inputs) that picks them."
        )
    if not jnp.issubdtype(outputs.dtype, jnp.inexact):
        raise ValueError(
            f"Argument `model` must return floating-point numbers, but returns {outputs.dtype}; "
            "nothing flows through integers."
        )
    if outputs.shape[:1] != targets.shape[:1]:
        raise ValueError(
            f"Argument `model` must return one output for each of {targets.shape[0]} samples, but "
            f"returns {outputs.shape}; keep samples on the first axis."
        )
    loss.check_targets(outputs, targets)
    rule = "Argument `loss` must take the outputs of the model and the targets"
    with one_sentence(rule, "change the loss or the data"):
        each = jax.eval_shape(loss.per_sample, outputs, _struct(targets))
    if getattr(each, "shape", None) != outputs.shape[:1] or not _is_real(each):
        raise ValueError(
            f"Argument `loss` must return one real number per sample, but returns {_named(each)}; "
            "sum over the outputs, and take the modulus of complex ones."
        )


def check_value(objective: AbstractObjective, model: PyTree) -> None:
    """Refuse a loss that does not return one real number.

    Args:
        objective: L.
        model: the model.

    Raises:
        ValueError: if L(model) is anything else.
    """
    rule = "Argument `loss` must take the model"
    with one_sentence(rule, "change the loss or the model"):
        result = eqx.filter_eval_shape(objective, model)
    if getattr(result, "shape", None) != () or not _is_real(result):
        raise ValueError(
            f"Argument `loss` must return one real floating-point number, but returns "
            f"{_named(result)}; average over samples, and take the modulus of complex numbers."
        )


def _is_real(struct: Any) -> bool:
    return jnp.issubdtype(struct.dtype, jnp.floating)


def _struct(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _named(result: Any) -> str:
    """What a function returned, in a few words."""
    if hasattr(result, "shape") and hasattr(result, "dtype"):
        return f"{result.dtype} of shape {tuple(result.shape)}"
    return f"a {type(result).__name__}" if result is not None else "None"


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Attributes:
        name: a short name.
        objective: the loss L.
        provenance: where the data come from, seeds included, enough to make them again.
        facts: exact facts that tests and diagnostics may use, e.g. "least loss".
        held_out: the mean of a loss over samples that have no part in L: a flow records it beside
            L, and accuracies where targets are labels. None for none.
    """

    name: str
    objective: AbstractObjective
    provenance: Mapping[str, object] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    held_out: Supervised | None = None

    def _card_(self) -> Card:
        objective = self.objective
        rows: list[tuple[str, Any]] = [("objective", objective)]
        if isinstance(objective, Supervised):
            names = ("inputs", "targets", "loss")
            rows = [(name, getattr(objective, name)) for name in names]
        rows += [("held_out", self.held_out)] if self.held_out is not None else []
        rows += [(f"facts[{name!r}]", value) for name, value in self.facts.items()]
        rows += [(f"provenance[{name!r}]", value) for name, value in self.provenance.items()]
        return Card(f"Task {self.name!r}", rows)


def supervised(
    inputs: PyTree,
    targets: Array | np.ndarray,
    loss: str | AbstractLoss | Callable = "squared",
    *,
    name: str = "supervised",
    apply: Callable | None = None,
    samplewise: bool = False,
    provenance: Mapping[str, object] | None = None,
    facts: Mapping[str, object] | None = None,
    held_out: tuple[PyTree, Array | np.ndarray] | None = None,
) -> Task:
    """A task from data.

    Args:
        inputs: samples, an array (samples, ...) or a dict of such arrays.
        targets: targets, (samples, ...).
        loss: "squared" (|F - f*|^2 summed over outputs, no 1/2), "cross-entropy" (logits and
            labels), or ell(output, target) -> scalar of one sample. L is the mean over samples.
        name: a short name.
        apply: None when the model is callable: a `Lift` or another
            `flowlift.protocols.AbstractSamplewise` takes all samples at once, any other model is
            mapped over samples by vmap; else apply(model, inputs) -> outputs.
        samplewise: say True if apply(model, inputs)[i] depends on inputs[i] alone; only then may
            samples be cut into chunks (`memory` of `solve`) or spread over devices (`shard`).
        provenance: where the data come from.
        facts: exact facts known of it.
        held_out: further inputs and targets, of the same shapes but for their number, on which
            the same loss is recorded along the flow; they have no part in L.

    Returns:
        The task.

    Raises:
        ValueError: if the data are no arrays of numbers, not finite, or their numbers of samples
            differ or are zero; or held-out samples have other shapes.
    """
    _check_samples(inputs, targets, "inputs", "targets")
    _check_static("apply", apply)
    _check_static("loss", loss)
    keep_compilations()
    objective = _of_samples(inputs, targets, resolve_loss(loss), apply, samplewise)
    if held_out is None:
        return Task(name, objective, provenance or {}, facts or {})
    further = _held_out(held_out, objective)
    return Task(name, objective, provenance or {}, facts or {}, further)


def _of_samples(inputs: PyTree, targets, loss, apply, samplewise: bool) -> Supervised:
    arrays = jax.tree.map(jnp.asarray, inputs), jnp.asarray(targets)
    return Supervised(*arrays, loss, apply, samplewise=samplewise)


def _held_out(pair: Any, training: Supervised) -> Supervised:
    """The loss of a task on further samples."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            "Argument `held_out` must be a pair (inputs, targets), but is "
            f"{type(pair).__name__}; give both."
        )
    inputs, targets = pair
    _check_samples(inputs, targets, "held_out[0]", "held_out[1]")
    shape = lambda tree: jax.tree.map(lambda leaf: np.shape(leaf)[1:], tree)
    found, wanted = shape((inputs, targets)), shape((training.inputs, training.targets))
    if found != wanted:
        raise ValueError(
            "Argument `held_out` must hold samples of the shapes of the others, inputs and "
            f"targets {wanted}, but holds {found}; reshape them."
        )
    settings = training.loss, training.apply, training.samplewise
    return _of_samples(inputs, targets, *settings)


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


def resolve_objective(task: Task | AbstractObjective | Callable) -> AbstractObjective:
    """The objective of a task, an objective, or a callable model -> L.

    Args:
        task: either of them.

    Returns:
        The objective.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(task, Task):
        return task.objective
    if isinstance(task, AbstractObjective):
        return task
    if callable(task):
        return population(task).objective
    raise ValueError(
        f"Argument `task` must be a Task, an objective or a callable model -> loss, but is "
        f"{type(task).__name__}; see flowlift.tasks."
    )


def _check_static(name: str, value: object) -> None:
    """Refuse arrays that JAX cannot see: it would take their values for part of the program."""
    for leaf in jax.tree.leaves(value):
        try:
            hash(leaf) if not hasattr(leaf, "dtype") else None
        except TypeError:
            raise ValueError(
                f"Argument `{name}` must be an equinox.Module if it holds arrays, but is "
                f"{type(leaf).__name__}, which has no hash; make it one."
            ) from None


def _check_samples(inputs: PyTree, targets: Any, *names: str) -> None:
    """Refuse data that are no samples with targets."""
    first, second = names
    leaves = jax.tree_util.tree_leaves_with_path(inputs)
    arrays = {second: targets}
    arrays |= {f"{first}{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    _check_data(arrays, f"Arguments `{first}` and `{second}`")


def _check_data(arrays: Mapping[str, Any], both: str) -> None:
    for name, array in arrays.items():
        if not hasattr(array, "__array__"):
            raise ValueError(
                f"Argument `{name}` must be an array (samples, ...), but is of type "
                f"{type(array).__name__}, perhaps in a list; convert the whole by numpy.asarray."
            )
        dtype = getattr(array, "dtype", None) or np.asarray(array).dtype
        if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
            raise ValueError(
                f"Argument `{name}` must hold numbers, but holds {dtype}; encode them as numbers."
            )
    lengths = {name: np.shape(array)[:1] for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or next(iter(lengths.values())) in ((), (0,)):
        raise ValueError(
            f"{both} must hold equally many samples, at least one, on "
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
