"""How many samples a gradient takes at a time."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

from ..protocols import AbstractSamplewise
from ..tasks import AbstractObjective, Supervised
from ..tasks.added import Penalised
from ..tasks.chunks import SAY_SO, arrange
from ..tasks.streamed import Streamed

_SIZES = 2, 4


def chunk_samples(
    model: PyTree, objective: AbstractObjective, memory: int | None
) -> AbstractObjective:
    """Arrange the samples of an objective for gradients of a model.

    Only samples that are known to act each by itself are cut: those of a model under vmap, of one
    that declares it (`flowlift.protocols.AbstractSamplewise`), or where the task says so of its
    `apply`. Such a model may also say how many samples at a time are fastest. `memory`
    bounds what one gradient computes for the samples of a chunk, on each device: activations,
    their cotangents, and everything else whose size grows with the number of samples. The bound
    counts each array of the traced gradient as if none were freed before the end, so that it errs
    upwards (about twofold for lifts); parameters, data and blocks of fixed size (a few MB) come on
    top. Results change by rounding alone.

    Args:
        model: the model, in the precision of the computation.
        objective: L.
        memory: the bound in bytes, or None.

    Returns:
        The objective, in chunks if need be.

    Raises:
        ValueError: if `memory` is no positive integer, does not hold one sample, or the objective
            has no samples, or has samples that may be coupled.
    """
    if not (memory is None or isinstance(memory, int | np.integer)):
        raise ValueError(
            f"Argument `memory` must be a whole number of bytes, but is {memory!r}; round it."
        )
    if isinstance(objective, Penalised):
        return dataclasses.replace(objective, data=chunk_samples(model, objective.data, memory))
    if isinstance(objective, Streamed):
        return _read_at_a_time(model, objective, memory)
    if not isinstance(objective, Supervised):
        if memory is not None:
            raise ValueError(
                "Argument `memory` must be None for a loss without samples, which has no chunks, "
                f"but is {memory!r}; leave it out."
            )
        return objective
    if not objective.separable and memory is None:
        return objective
    return arrange(objective, samples_at_a_time(model, objective, memory))


def samples_at_a_time(model: PyTree, objective: Supervised, memory: int | None) -> int:
    """The largest number of samples of a chunk, as `chunk_samples` cuts them.

    Args:
        model: the model.
        objective: L.
        memory: the bound in bytes, or None.

    Returns:
        The number; all of them where nothing asks for chunks.

    Raises:
        ValueError: as for `chunk_samples`.
    """
    size = objective.targets.shape[0]
    if not objective.separable:
        if memory is not None:
            raise ValueError(
                "Argument `memory` must be None for a task whose `apply` may couple samples, but "
                f"is {memory}; leave it out, or {SAY_SO}."
            )
        return size
    if isinstance(model, AbstractSamplewise) and model.samples_per_pass is not None:
        size = min(size, model.samples_per_pass)
    if memory is not None:
        per_sample = bytes_per_sample(model, objective)
        if memory < per_sample:
            raise ValueError(
                f"Argument `memory` must be at least {per_sample} bytes, the activations of one "
                f"sample, but is {memory!r}; raise it."
            )
        size = min(size, memory // per_sample)
    return int(size)


def _read_at_a_time(model: PyTree, objective: Streamed, memory: int | None) -> Streamed:
    """Of samples in files a chunk is data too: as read, and as the program takes it."""
    inputs, targets = objective.rows.like(1)
    like = Supervised(inputs, targets, objective.loss, objective.apply)
    # All of them at once is what a model without a wish would have.
    size = min(objective.at_a_time, objective.rows.samples)
    if isinstance(model, AbstractSamplewise) and model.samples_per_pass is not None:
        size = min(size, model.samples_per_pass)
    if memory is not None:
        each = bytes_per_sample(model, like) + 2 * objective.rows.bytes_of_a_row
        if memory < each:
            raise ValueError(
                f"Argument `memory` must be at least {each} bytes, one sample with its "
                f"activations, but is {memory!r}; raise it."
            )
        size = min(objective.rows.samples, size, memory // each)
    return dataclasses.replace(objective, at_a_time=int(size))


def bytes_per_sample(model: PyTree, objective: Supervised) -> int:
    """By how much the arrays that a gradient computes grow with each sample, in bytes.

    Args:
        model: the model.
        objective: L.

    Returns:
        An upper bound: the sizes of all intermediate arrays of the traced gradient. Nothing is
        computed or compiled.
    """
    few, more = (_traced_bytes(model, objective, size) for size in _SIZES)
    return max(1, -(-(more - few) // (_SIZES[1] - _SIZES[0])))


def _traced_bytes(model: PyTree, objective: Supervised, samples: int) -> int:
    first = lambda leaf: jax.ShapeDtypeStruct((samples, *leaf.shape[1:]), leaf.dtype)
    data = jax.tree.map(first, (objective.inputs, objective.targets))
    trainable, rest = eqx.partition(model, eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    def gradient(data, trainable, arrays):
        inputs, targets = data
        part = Supervised(inputs, targets, objective.loss, objective.apply)
        return jax.grad(lambda tree: part(eqx.combine(tree, arrays, static)))(trainable)

    return _size(jax.make_jaxpr(gradient)(data, trainable, arrays).jaxpr)


def _size(jaxpr: core.Jaxpr) -> int:
    return sum(
        sum(_bytes(v.aval) for v in eqn.outvars) + sum(_size(inner) for inner in _inner(eqn.params))
        for eqn in jaxpr.eqns
    )


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, _JAXPRS)):
        if isinstance(value, _JAXPRS):
            yield value.jaxpr if isinstance(value, core.ClosedJaxpr) else value


_JAXPRS = core.Jaxpr, core.ClosedJaxpr


def _bytes(aval: Any) -> int:
    return int(np.prod(aval.shape)) * aval.dtype.itemsize if hasattr(aval, "dtype") else 0
