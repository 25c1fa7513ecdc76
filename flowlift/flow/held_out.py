"""Loss and accuracy on held-out data as records of a flow."""

import math
from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..static import number_kinds
from ..tasks import AbstractObjective, Supervised, Task
from ..tasks.added import data_of
from ..tasks.chunks import Chunked
from ..tasks.held_out import labelling, loss_and_accuracy
from ..tasks.outputs import output_shapes
from .chunking import chunk_samples
from .observers import AbstractObserver, Observers, Watched
from .problem import in_precision

# The records by name: meaning and unit.
HELD_OUT = {
    "held_out_loss": ("loss on held-out data", "loss"),
    "accuracy": ("share of training samples with the right label", "1"),
    "held_out_accuracy": ("share of held-out samples with the right label", "1"),
}
# No name that a user's observer can have.
_NAME = "/held out"


class HeldOutRecords(AbstractObserver):
    """The mean loss over held-out samples, and the accuracy there and on the training samples.

    Forward passes alone, in chunks where the gradient's are.

    Attributes:
        held_out: the held-out samples.
        training: the training samples; None where there are no labels.
        labels: how targets are labels, see `flowlift.tasks.held_out.labelling`; None if they are
            none.
        cost: in gradients: a forward pass over k samples counts as k / n of one over the n training
            samples, rounded up for all passes together. A gradient holds such a pass, and more.
    """

    held_out: Supervised | Chunked
    training: Supervised | Chunked | None
    labels: str | None = eqx.field(static=True)
    cost: int = eqx.field(static=True)

    def measure(self, model: PyTree) -> tuple[dict[str, Float[Array, ""]], int]:
        """The records at a model by name, and their cost.

        Args:
            model: the model.

        Returns:
            Both.
        """
        loss, accuracy = loss_and_accuracy(self.held_out, model, self.labels)
        found = {"held_out_loss": loss}
        if self.training is not None:
            found["accuracy"] = loss_and_accuracy(self.training, model, self.labels)[1]
            found["held_out_accuracy"] = accuracy
        return found, self.cost


def held_out_of(
    task: object, objective: AbstractObjective, model: PyTree, precision: str, memory: int | None
) -> Observers:
    """The records that the held-out data of a task ask for; nothing is computed.

    Args:
        task: what was given to `solve`.
        objective: its objective.
        model: the model.
        precision: of the flow; the data are converted to it.
        memory: bound on the activations of one gradient, which holds for these passes too.

    Returns:
        One observer, or none where there are no held-out data.

    Raises:
        ValueError: if the model does not fit the held-out data.
    """
    if not isinstance(task, Task) or task.held_out is None:
        return ()
    model, further = in_precision(model, precision), in_precision(task.held_out, precision)
    further.check(model)
    data = data_of(objective)
    training = in_precision(data, precision) if isinstance(data, Supervised) else None
    labels = None if training is None else _labels(model, training, further)
    samples = further.targets.shape[0]
    of = samples if training is None else training.targets.shape[0]
    kept = training if labels else None
    if kept is not None:
        samples += of
    cut = lambda part: in_precision(chunk_samples(model, part, memory), precision)
    records = HeldOutRecords(
        cut(further), kept if kept is None else cut(kept), labels, math.ceil(samples / of)
    )
    names = list(HELD_OUT) if labels else ["held_out_loss"]
    return (Watched(_NAME, {n: n for n in names}, records, number_kinds(records)),)


def apart(observations: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, np.ndarray]]:
    """Observers' records, and those of held-out data by their own names.

    Args:
        observations: values by the observer's name.

    Returns:
        Both.
    """
    own = {name: value for name, value in observations.items() if name != _NAME}
    return own, dict(observations.get(_NAME, {}))


def _labels(model: PyTree, training: Supervised, further: Supervised) -> str | None:
    """How both targets are labels, if both are in the same way."""
    kinds = {
        labelling(part, output_shapes(model, part.inputs, part.apply))
        for part in (training, further)
    }
    return kinds.pop() if len(kinds) == 1 else None
