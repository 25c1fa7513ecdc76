"""Real data as tasks: what the data sets share, and labels as scores or as classes."""

from collections.abc import Mapping

import numpy as np

from ..numbers import whole
from ..streams import Purpose, stream
from .task import Task, supervised

PROBLEMS = ("regression", "classification")


def from_sklearn(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A data set that ships inside scikit-learn.

    Args:
        name: of the data set, and of the task made from it.

    Returns:
        Inputs (samples, numbers) and targets (samples,).

    Raises:
        ImportError: without scikit-learn.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"Task {name!r} needs scikit-learn, which is not installed; run "
            "pip install 'flowlift[data]'."
        ) from error
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def check_shape(shape: tuple[int, ...], numbers: int, examples: str) -> None:
    """Refuse a shape of one input that does not hold its numbers.

    Args:
        shape: the shape.
        numbers: how many numbers an input has.
        examples: shapes that do.

    Raises:
        ValueError: if the shape holds another number of them.
    """
    if np.prod(shape) != numbers:
        raise ValueError(
            f"Argument `shape` must hold {numbers} numbers, but is {shape}; give e.g. {examples}."
        )


def check_problem(problem: str) -> None:
    """Refuse an unknown problem.

    Args:
        problem: the word.

    Raises:
        ValueError: if it is neither "regression" nor "classification".
    """
    if problem not in PROBLEMS:
        raise ValueError(
            f"Argument `problem` must be one of {', '.join(PROBLEMS)}, but is {problem!r}; "
            "choose one."
        )


def choose_samples(samples: int | None, total: int, seed: int) -> np.ndarray:
    """Indices of some of the samples, drawn without replacement.

    Args:
        samples: how many; None for all, in random order too.
        total: how many there are.
        seed: of the draw.

    Returns:
        The indices.

    Raises:
        ValueError: if `samples` is no integer from 1 to `total`.
    """
    count = total if samples is None else samples
    count = whole(count)
    if count is None or not 1 <= count <= total:
        raise ValueError(
            f"Argument `samples` must be an integer from 1 to {total}, but is {samples!r}; "
            "give fewer, or None for all."
        )
    return stream(seed, Purpose.DATA).permutation(total)[:count]


def labelled(
    inputs: np.ndarray,
    labels: np.ndarray,
    classes: int,
    problem: str,
    *,
    name: str,
    provenance: Mapping[str, object],
) -> Task:
    """A task from labelled samples.

    Args:
        inputs: (samples, ...), in the task's precision.
        labels: (samples,), integers below `classes`.
        classes: c.
        problem: "regression": one-hot targets in R^c and squared loss, summed over the c outputs;
            "classification": softmax cross-entropy. L is the mean over samples.
        name: of the data.
        provenance: where they come from.

    Returns:
        The task, called name-problem.
    """
    name = f"{name}-{problem}"
    if problem == "classification":
        return supervised(inputs, labels, "cross-entropy", name=name, provenance=provenance)
    targets = np.eye(classes, dtype=inputs.dtype)[labels]
    return supervised(inputs, targets, name=name, provenance=provenance)
