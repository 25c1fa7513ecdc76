"""Samples in chunks and on several devices: L and its derivatives as sums over parts."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .added import Penalised
from .losses import AbstractLoss
from .outputs import output_shapes, predict
from .task import AbstractObjective, Population, Supervised, Task, check_outputs

_AXIS = "samples"
Function = Callable[[AbstractObjective, PyTree], PyTree]
# How a refusal to cut samples ends.
SAY_SO = "say supervised(..., samplewise=True) if each output depends on its own sample alone"


class Samples(eqx.Module):
    """Some samples with their weights in the mean.

    Attributes:
        inputs: the samples x_i.
        targets: the targets y_i.
        weights: c_i, 1/n for the mean over n samples and 0 for padding.
    """

    inputs: PyTree[Array]
    targets: PyTree[Array]
    weights: Float[Array, "..."]


class Part(AbstractObjective):
    """sum_i c_i ell(F(x_i), y_i) over some samples, with weights c_i.

    Attributes:
        samples: x_i, y_i and c_i.
        loss: ell.
        apply: as for `Supervised`.
    """

    samples: Samples
    loss: AbstractLoss
    apply: Callable | None = None

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The weighted sum."""
        outputs = predict(model, self.samples.inputs, self.apply)
        return jnp.vdot(self.samples.weights, self.loss.per_sample(outputs, self.samples.targets))

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets; nothing is computed."""
        outputs = output_shapes(model, self.samples.inputs, self.apply)
        check_outputs(self.loss, outputs, self.samples.targets)


class Chunked(AbstractObjective):
    """L = (1/n) sum_i ell(F(x_i), y_i) as a sum over chunks of samples, on one device or several.

    Only one chunk's activations exist at a time on each device; the sum over devices is the only
    communication. `total` gives derivatives from one pass; differentiating a call is right as
    well, but computes each chunk's activations twice.

    Attributes:
        parts: samples, targets and weights with two leading axes, (chunks, samples of a chunk);
            chunks are equally long, the last ones padded with the last sample at weight 0.
        loss: ell.
        apply: as for `Supervised`.
        samples: n.
        mesh: None, or the devices over which chunks are spread.
    """

    parts: Samples
    loss: AbstractLoss
    apply: Callable | None
    samples: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The mean over samples."""
        dynamic, static = eqx.partition(model, eqx.is_array)
        loss = jax.checkpoint(lambda part, at: part(eqx.combine(at, static)))
        return total(self, loss, dynamic)

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets; in words of all n samples."""
        whole = lambda x: jax.ShapeDtypeStruct((self.samples, *x.shape[2:]), x.dtype)
        outputs = output_shapes(model, jax.tree.map(whole, self.parts.inputs), self.apply)
        flat = self.parts.targets.reshape(-1, *self.parts.targets.shape[2:])
        check_outputs(self.loss, outputs, flat[: self.samples])


def total(objective: AbstractObjective, function: Function, at: PyTree) -> PyTree:
    """The value of a function that is linear in the loss, as a sum over the objective's parts.

    With (L, grad L) for the function, both come from one pass over each chunk.

    Cost: as without chunks. Memory: the function's, for one chunk.

    Args:
        objective: L.
        function: of an objective and of arrays; linear in the objective, such as a value, a
            gradient or a Hessian-vector product of it.
        at: the arrays, the same for all parts, typically parameters.

    Returns:
        The sum over parts, which equals function(objective, at) to rounding.
    """
    if isinstance(objective, Penalised):
        # Linear in the loss: the terms are counted once, whatever the data are cut into.
        terms = Population(objective.added)
        return jax.tree.map(_plus, total(objective.data, function, at), function(terms, at))
    if not isinstance(objective, Chunked):
        return function(objective, at)
    shared, static = eqx.partition((objective.loss, objective.apply), eqx.is_array)

    def of_samples(samples: Samples, both: tuple[PyTree, PyTree]) -> PyTree:
        shared, at = both
        return function(Part(samples, *eqx.combine(shared, static)), at)

    if objective.mesh is None:
        return _sum(of_samples, objective.parts, (shared, at))

    def local(parts, both):
        return jax.lax.psum(_sum(of_samples, parts, both), _AXIS)

    return jax.shard_map(
        local,
        mesh=objective.mesh,
        in_specs=(PartitionSpec(_AXIS), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(objective.parts, (shared, at))


def _plus(data: Array, added: Array) -> Array:
    # A term in another precision does not change that of L.
    return data + added.astype(data.dtype)


def shard(task: Task, devices: Sequence[Any] | None = None) -> Task:
    """Spread the samples of a task over devices; parameters are replicated.

    `solve` and every gradient that it takes then run on all of them. Per gradient, the devices
    exchange one sum of P + 1 numbers. The flow equals the one on a single device to rounding.

    Args:
        task: a task with samples.
        devices: which devices; all that JAX sees if None.

    Returns:
        The same task, sharded.

    Raises:
        ValueError: if the task's loss is a closed form, its `apply` may couple samples, or there
            are more devices than samples.
    """
    objective = task.objective
    if not isinstance(objective, Supervised):
        raise ValueError(
            "Argument `task` must have samples to spread over devices, but its objective is "
            f"{type(objective).__name__}; leave it on one device."
        )
    if not objective.separable:
        raise ValueError(
            "Argument `task` must act on each sample by itself to be spread over devices, but its "
            f"`apply` may couple them; {SAY_SO}."
        )
    chosen = tuple(jax.devices() if devices is None else devices)
    if not 1 <= len(chosen) <= objective.targets.shape[0]:
        raise ValueError(
            f"Argument `devices` must name between 1 and {objective.targets.shape[0]} devices, the "
            f"number of samples, but names {len(chosen)}; change it."
        )
    return dataclasses.replace(task, objective=dataclasses.replace(objective, devices=chosen))


def arrange(objective: Supervised, size: int) -> Supervised | Chunked:
    """Cut the samples into chunks of equal length, and place them on the objective's devices.

    Args:
        objective: L with its samples.
        size: the largest number of samples of a chunk.

    Returns:
        The same L; the objective itself if it is one chunk on the default device.
    """
    n, across = objective.targets.shape[0], max(len(objective.devices), 1)
    n_chunks = across * math.ceil(n / (across * size))
    if n_chunks == 1:
        return objective
    length = math.ceil(n / n_chunks)
    index = np.arange(n_chunks * length).reshape(n_chunks, length)
    # Of data that are traced, inside an observer, the program cuts.
    known = lambda leaf: leaf if isinstance(leaf, Tracer) else np.asarray(leaf)
    cut = lambda leaf: known(leaf)[np.minimum(index, n - 1)]
    inputs, targets = jax.tree.map(cut, (objective.inputs, objective.targets))
    weights = np.where(index < n, 1 / n, 0.0).astype(_real_type(inputs))
    parts = Samples(inputs, targets, weights)  # pyright: ignore[reportArgumentType]
    rest = objective.loss, objective.apply, n
    if across == 1:
        return Chunked(jax.tree.map(jnp.asarray, parts), *rest)
    mesh = Mesh(np.asarray(objective.devices), (_AXIS,))
    return Chunked(
        jax.device_put(parts, NamedSharding(mesh, PartitionSpec(_AXIS))), *rest, mesh=mesh
    )


def _real_type(inputs: PyTree) -> np.dtype:
    """The real type of the widest floating-point input, JAX's default if all are integers."""
    types = [leaf.dtype for leaf in jax.tree.leaves(inputs)]
    types = [t for t in types if jnp.issubdtype(t, jnp.inexact)]
    widest = max((jnp.finfo(t).dtype for t in types), key=lambda t: t.itemsize, default=None)
    return jax.dtypes.canonicalize_dtype(float) if widest is None else widest


def _first(parts: Samples) -> Samples:
    return jax.tree.map(lambda leaf: leaf[0], parts)


def _sum(function: Callable, parts: Samples, at: PyTree) -> PyTree:
    """The sum over the leading axis; the function is compiled once."""
    if parts.weights.shape[0] == 1:
        return function(_first(parts), at)

    def add(so_far, part):
        return jax.tree.map(jnp.add, so_far, function(part, at)), None

    shapes = jax.eval_shape(function, _first(parts), at)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zero, parts)[0]
