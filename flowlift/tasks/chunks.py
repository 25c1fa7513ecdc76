"""Samples in chunks and on several devices: L and its derivatives as sums over parts."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .losses import AbstractLoss
from .task import AbstractObjective, Supervised, Task, predict

_AXIS = "samples"
Function = Callable[[AbstractObjective, PyTree], PyTree]


class Part(AbstractObjective):
    """sum_i c_i ell(F(x_i), y_i) over some samples, with weights c_i.

    Attributes:
        inputs: the samples x_i.
        targets: the targets y_i.
        weights: c_i, 1/n for the mean over n samples and 0 for padding.
        loss: ell.
        apply: as for `Supervised`.
    """

    inputs: PyTree[Array]
    targets: PyTree[Array]
    weights: Float[Array, "..."]
    loss: AbstractLoss = eqx.field(static=True)
    apply: Callable | None = eqx.field(static=True, default=None)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The weighted sum."""
        outputs = predict(model, self.inputs, self.apply)
        return jnp.vdot(self.weights, self.loss.per_sample(outputs, self.targets))

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets, by shapes alone."""
        outputs = eqx.filter_eval_shape(predict, model, self.inputs, self.apply)
        self.loss.check(outputs.shape, self.targets.shape)


class Chunked(AbstractObjective):
    """L = (1/n) sum_i ell(F(x_i), y_i) as a sum over chunks of samples, on one device or several.

    Only one chunk's activations exist at a time on each device; the sum over devices is the only
    communication. `total` gives derivatives from one pass; differentiating a call is right as
    well, but computes each chunk's activations twice.

    Attributes:
        parts: samples, targets and weights with two leading axes, (chunks, samples of a chunk);
            chunks are equally long, the last ones padded with the last sample at weight 0.
        mesh: None, or the devices over which chunks are spread.
    """

    parts: Part
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The mean over samples."""
        dynamic, static = eqx.partition(model, eqx.is_array)
        loss = jax.checkpoint(lambda part, at: part(eqx.combine(at, static)))
        return total(self, loss, dynamic)

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets, by shapes alone."""
        _first(self.parts).check(model)


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
    if not isinstance(objective, Chunked):
        return function(objective, at)
    if objective.mesh is None:
        return _sum(function, objective.parts, at)

    def local(parts, at):
        return jax.lax.psum(_sum(function, parts, at), _AXIS)

    return jax.shard_map(
        local,
        mesh=objective.mesh,
        in_specs=(PartitionSpec(_AXIS), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(objective.parts, at)


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
        ValueError: if the task's loss is a closed form, or there are more devices than samples.
    """
    objective = task.objective
    if not isinstance(objective, Supervised):
        raise ValueError(
            "Argument `task` must have samples to spread over devices, but its objective is "
            f"{type(objective).__name__}; leave it on one device."
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
    cut = lambda leaf: np.asarray(leaf)[np.minimum(index, n - 1)]
    inputs, targets = jax.tree.map(cut, (objective.inputs, objective.targets))
    dtype = jnp.result_type(float, *jax.tree.leaves(inputs))
    weights = jnp.asarray(np.where(index < n, 1 / n, 0.0), dtype)
    parts = Part(inputs, targets, weights, objective.loss, objective.apply)
    if across == 1:
        return Chunked(jax.tree.map(jnp.asarray, parts))
    mesh = Mesh(np.asarray(objective.devices), (_AXIS,))
    return Chunked(jax.device_put(parts, NamedSharding(mesh, PartitionSpec(_AXIS))), mesh)


def _first(parts: Part) -> Part:
    return jax.tree.map(lambda leaf: leaf[0], parts)


def _sum(function: Function, parts: Part, at: PyTree) -> PyTree:
    """The sum over the leading axis; the function is compiled once."""
    if parts.weights.shape[0] == 1:
        return function(_first(parts), at)

    def add(so_far, part):
        return jax.tree.map(jnp.add, so_far, function(part, at)), None

    shapes = jax.eval_shape(function, _first(parts), at)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zero, parts)[0]
