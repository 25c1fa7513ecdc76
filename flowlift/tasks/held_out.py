"""Samples that have no part in the loss: how many, which, and what is measured on them.

Real data are split by one random order of all samples: training samples are the first of it,
held-out ones the last, so that a training set is the same with held-out data as without, and a
held-out set the same whatever the number of training samples. Samples that are drawn come from a
stream of their own.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..numbers import real, whole
from ..streams import Purpose, stream
from .chunks import Chunked, Part, total
from .outputs import predict
from .task import AbstractObjective, Supervised

# What `held_out` of a built-in task may be.
HeldOut = int | float | None


def held_out_count(held_out: Any, of: int, most: int | None = None) -> int:
    """How many samples `held_out` asks for.

    Args:
        held_out: a number of samples, an integer; a fraction of `of`, a float in (0, 1), rounded,
            at least one sample; None for none.
        of: of how many samples a fraction is meant.
        most: the most there may be; None for any number.

    Returns:
        The number.

    Raises:
        ValueError: for anything else.
    """
    if held_out is None:
        return 0
    count, fraction = whole(held_out), real(held_out)
    if count is None and fraction is not None and 0 < fraction < 1:
        count = max(1, round(fraction * of))
    if count is None or count < 1 or (most is not None and count > most):
        limit = "" if most is None else f" of at most {most}"
        raise ValueError(
            f"Argument `held_out` must be a number{limit} of samples, at least 1, or a fraction "
            f"between 0 and 1, but is {held_out!r}; give e.g. 0.2, or None for no held-out data."
        )
    return count


def split_samples(
    samples: int | None, held_out: HeldOut, total: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and of held-out samples of a data set, drawn without replacement.

    Args:
        samples: how many to train on; None for all that are not held out.
        held_out: how many to hold out, or which fraction of the whole data set; None for none.
        total: how many there are.
        seed: of the draw.

    Returns:
        Both, in random order.

    Raises:
        ValueError: if `samples` is no integer from 1 to `total`, or both are more than there are.
    """
    kept = held_out_count(held_out, total, total - 1)
    count = whole(total - kept if samples is None else samples)
    if count is None or not 1 <= count <= total - kept:
        besides = f", the {total} without {kept} held out" if kept else ""
        raise ValueError(
            f"Argument `samples` must be an integer from 1 to {total - kept}{besides}, but is "
            f"{samples!r}; give fewer, or None for all."
        )
    order = stream(seed, Purpose.DATA).permutation(total)
    return order[:count], order[total - kept :]


def provenance_of(held_out: np.ndarray | int) -> dict[str, int]:
    """What a task's provenance says of its held-out samples: nothing where there are none.

    Args:
        held_out: them, or their number.

    Returns:
        The number under "held out".
    """
    count = held_out if isinstance(held_out, int) else len(held_out)
    return {"held out": count} if count else {}


def labelling(objective: Supervised, outputs: jax.ShapeDtypeStruct) -> str | None:
    """How a task's targets are labels, if they are.

    Args:
        objective: the samples.
        outputs: shape and type of the outputs for them.

    Returns:
        "classes": integers (samples,) for outputs (samples, classes); "one-hot": rows with a single
        1 among zeros, of two classes at least; "signs": +1 and -1, one for each sample and output
        (samples,) or (samples, 1). None where they are none of these.
    """
    targets = np.asarray(objective.targets)
    wide = len(outputs.shape) == 2 and outputs.shape[1] > 1
    if jnp.issubdtype(outputs.dtype, jnp.complexfloating):
        return None
    if wide and targets.shape == outputs.shape[:1] and targets.dtype.kind in "iu":
        return "classes"
    if targets.shape != outputs.shape or targets.dtype.kind not in "iufb":
        return None
    if wide:
        right = ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()
        return "one-hot" if right else None
    single = int(np.prod(outputs.shape[1:])) == 1
    return "signs" if single and (np.abs(targets.astype(float)) == 1).all() else None


def right(outputs: Array, targets: Array, labels: str) -> Bool[Array, " samples"]:
    """Which samples a model gives their label: the greatest output, the first of equal ones.

    Args:
        outputs: of the model.
        targets: the labels.
        labels: as given by `labelling`. Of signs an output of 0 is right for none.

    Returns:
        Booleans.
    """
    if labels == "signs":
        return (outputs * targets > 0).reshape(len(outputs))
    wanted = targets if labels == "classes" else jnp.argmax(targets, axis=-1)
    return jnp.argmax(outputs, axis=-1) == wanted


def loss_and_accuracy(
    objective: Supervised | Chunked, model: PyTree, labels: str | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean loss and the share of samples with the right label, from one forward pass.

    Args:
        objective: the samples, in chunks or not.
        model: the model.
        labels: as given by `labelling`.

    Returns:
        Both; the share is NaN where there are no labels.
    """
    arrays, static = eqx.partition(model, eqx.is_array)

    def of_part(part: AbstractObjective, arrays: PyTree) -> tuple[Array, Array]:
        inputs, targets, mean = _samples(part)
        outputs = predict(eqx.combine(arrays, static), inputs, part.apply)  # pyright: ignore
        losses = part.loss.per_sample(outputs, targets)  # pyright: ignore
        if labels is None:
            return mean(losses), jnp.full((), jnp.nan, losses.dtype)
        return mean(losses), mean(right(outputs, targets, labels).astype(losses.dtype))

    return total(objective, of_part, arrays)


def _samples(part: Any) -> tuple[PyTree, Array, Callable]:
    """Inputs, targets and the mean: weighted where samples of a chunk are."""
    if not isinstance(part, Part):
        return part.inputs, part.targets, jnp.mean
    samples = part.samples
    return samples.inputs, samples.targets, lambda values: jnp.vdot(samples.weights, values)
