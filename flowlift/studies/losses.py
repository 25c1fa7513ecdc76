"""What a study adds to the loss of its task: tables, and the task that they make."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import PyTree

from ..tasks import Task, with_decay, with_label_noise, with_output, with_term
from .kinds import built


@dataclasses.dataclass(frozen=True)
class OutputPlan:
    """The outputs that the loss sees: scale x (F(x) - F_start(x)), see `tasks.with_output`."""

    scale: float = 1.0
    """The factor, not 0."""
    centred: bool = False
    """Whether the outputs at the start are subtracted, of each model its own."""


@dataclasses.dataclass(frozen=True)
class NoisePlan:
    """Noise of the training targets, drawn once, see `flowlift.tasks.with_label_noise`."""

    noise: float
    """Standard deviation of numbers, or the probability of another label."""
    seed: int
    """Of the noise, whatever the seed of the lift."""


def with_added(
    task: Task,
    start: PyTree | None,
    *,
    output: OutputPlan | None,
    label_noise: NoisePlan | None,
    decay: Mapping[str, float] | None,
    terms: Mapping[str, Any] | None,
) -> Task:
    """A task with what the tables of a study add to its loss.

    Args:
        task: the task.
        start: the model at the start, which centred outputs need; None leaves them uncentred.
        output: the table `output`.
        label_noise: the table `label_noise`.
        decay: the table `decay`.
        terms: the table `terms`.

    Returns:
        The task.

    Raises:
        ValueError: for what the functions of `flowlift.tasks` refuse.
    """
    if label_noise is not None:
        task = with_label_noise(task, label_noise.noise, seed=label_noise.seed)
    if output is not None:
        task = with_output(task, scale=output.scale, start=start if output.centred else None)
    if decay:
        task = with_decay(task, decay)
    for name, chosen in (terms or {}).items():
        task = with_term(task, built(chosen), name=name)
    return task
