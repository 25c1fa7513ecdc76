"""Outputs scaled and centred, and labels with noise: tasks made of tasks."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..numbers import real
from ..streams import Purpose, stream
from .added import Penalised
from .logarithmic import AbstractMarginLoss
from .losses import CrossEntropy
from .outputs import predict
from .task import AbstractObjective, Supervised, Task

INPUTS, OFFSETS = "inputs", "offsets"


class ScaledOutput(eqx.Module):
    """apply(model, samples) = scale x (F(x) - offset), the offset being a part of the sample.

    Attributes:
        scale: the factor.
        apply: as for `Supervised`, of F.
    """

    scale: Float[Array, ""]
    apply: Callable | None

    def __call__(self, model: PyTree, samples: Mapping[str, PyTree[Array]]) -> PyTree[Array]:
        """The outputs of all samples."""
        return self.of(predict(model, samples[INPUTS], self.apply), samples.get(OFFSETS))

    def of(self, outputs: PyTree[Array], offsets: PyTree[Array] | None) -> PyTree[Array]:
        """scale x (F(x) - offset) of outputs F(x) that are known."""
        if offsets is not None:
            outputs = outputs - offsets
        return self.scale.astype(outputs.real.dtype) * outputs


def with_output(task: Task, *, scale: float = 1.0, start: PyTree | None = None) -> Task:
    """A task of s F(x), or of s (F_theta(x) - F_start(x)), in place of F(x).

    Richness (Chizat, Oyallon, Bach, NeurIPS 2019): a large s trains lazily. F_start(x) is computed
    once and kept with the samples, so that a gradient costs what it did.

    Args:
        task: a task with samples.
        scale: s, not 0.
        start: the model whose outputs are subtracted; None for none.

    Returns:
        The task, its held-out data likewise; without facts, which speak of F.

    Raises:
        ValueError: for a task without samples, or a scale of 0 or that is not finite.
    """
    number = real(scale)
    if number is None or number == 0 or not abs(number) < float("inf"):
        raise ValueError(
            f"Argument `scale` must be a finite number other than 0, but is {scale!r}; give the "
            "factor of the outputs."
        )
    change = lambda data: _scaled(data, number, start)
    further = None if task.held_out is None else change(task.held_out)
    return dataclasses.replace(
        task,
        objective=_on_data(task.objective, change),
        provenance={
            **task.provenance,
            "output": {"scale": number, "centred": start is not None},
        },
        facts={},
        held_out=further,
    )


def _scaled(data: AbstractObjective, scale: float, start: PyTree | None) -> Supervised:
    data = _with_samples(data, "output")
    samples: dict[str, Any] = {INPUTS: data.inputs}
    if start is not None:
        data.check(start)
        offsets = eqx.filter_jit(lambda model, inputs: predict(model, inputs, data.apply))
        samples[OFFSETS] = offsets(start, data.inputs)
    apply = ScaledOutput(jnp.asarray(scale, float), data.apply)
    return dataclasses.replace(data, inputs=samples, apply=apply, samplewise=data.separable)


def with_label_noise(task: Task, noise: float, *, seed: int) -> Task:
    """A task whose training targets carry noise: data that are drawn once.

    Numbers get independent N(0, noise^2), added. Labels, which are integers, or +1 and -1 of a loss
    of margins, are replaced, each with the probability `noise`, by another label that occurs,
    uniformly.

    Args:
        task: a task with samples; held-out data stay as they are.
        noise: the standard deviation, or the probability in [0, 1].
        seed: of the noise.

    Returns:
        The task, without facts.

    Raises:
        ValueError: for a task without samples or of probabilities, or noise outside its range.
    """
    objective = _on_data(task.objective, lambda data: _noisy(data, noise, seed))
    provenance = {**task.provenance, "label_noise": {"noise": float(noise), "seed": int(seed)}}
    return dataclasses.replace(task, objective=objective, provenance=provenance, facts={})


def _noisy(data: AbstractObjective, noise: float, seed: int) -> Supervised:
    data = _with_samples(data, "label_noise")
    targets = np.asarray(data.targets)
    margins = isinstance(data.loss, AbstractMarginLoss)
    labels = margins or not jnp.issubdtype(targets.dtype, jnp.inexact)
    if not labels and isinstance(data.loss, CrossEntropy):
        raise ValueError(
            "Argument `task` must have integer labels for label noise with cross-entropy, but has "
            f"probabilities of shape {targets.shape}, which added numbers leave; give labels."
        )
    number, most = real(noise), 1.0 if labels else np.finfo(float).max
    if number is None or not 0 <= number <= most:
        rule = "a probability from 0 to 1 for labels" if labels else "finite and at least 0"
        raise ValueError(f"Argument `noise` must be {rule}, but is {noise!r}; change it.")
    draws = stream(seed, Purpose.LABEL_NOISE, *targets.shape)
    if not labels:
        added = number * draws.standard_normal(targets.shape)
        return dataclasses.replace(data, targets=jnp.asarray(targets + added, targets.dtype))
    return dataclasses.replace(data, targets=jnp.asarray(_flipped(targets, number, draws)))


def _flipped(targets: np.ndarray, share: float, draws: np.random.Generator) -> np.ndarray:
    classes, place = np.unique(targets, return_inverse=True)
    turned = draws.random(targets.shape) < share
    if len(classes) < 2:
        if turned.any():
            raise ValueError(
                "Argument `noise` must be 0 for targets of one class, which have no other, but is "
                f"{share!r}; give more classes."
            )
        return targets
    steps = draws.integers(1, len(classes), targets.shape)
    others = classes[(place.reshape(targets.shape) + steps) % len(classes)]
    return np.where(turned, others, targets)


def _on_data(objective: AbstractObjective, change: Callable) -> AbstractObjective:
    """The objective with its data changed; terms of the parameters stay."""
    if isinstance(objective, Penalised):
        return dataclasses.replace(objective, data=change(objective.data))
    return change(objective)


def _with_samples(objective: AbstractObjective, what: str) -> Supervised:
    if isinstance(objective, Supervised):
        return objective
    raise ValueError(
        f"Argument `task` must have samples for `{what}`, but its loss is "
        f"{type(objective).__name__}; leave it out."
    )
