"""Real data as tasks: what the data sets share, and labels as scores or as classes."""

from collections.abc import Callable, Mapping

import numpy as np

from .held_out import provenance_of
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


def labelled(
    inputs: np.ndarray,
    labels: np.ndarray,
    classes: int,
    problem: str,
    *,
    name: str,
    provenance: Mapping[str, object],
    facts: Mapping[str, object] | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
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
        facts: exact facts known of them.
        held_out: further samples with their labels; none are held out if there are none.

    Returns:
        The task, called name-problem.
    """
    classify = problem == "classification"
    targets = lambda of: of if classify else np.eye(classes, dtype=inputs.dtype)[of]
    return _with_targets(name, problem, inputs, labels, targets, provenance, facts, held_out)


def two_classes(
    inputs: np.ndarray,
    positive: np.ndarray,
    problem: str,
    *,
    name: str,
    provenance: Mapping[str, object],
    facts: Mapping[str, object] | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
) -> Task:
    """A task from samples of two classes.

    Args:
        inputs: (samples, ...), in the task's precision.
        positive: (samples,), booleans.
        problem: "regression": targets 1 and -1, (samples,), and squared loss; "classification":
            labels 1 and 0, and softmax cross-entropy of two logits.
        name: of the data.
        provenance: where they come from.
        facts: exact facts known of them.
        held_out: further samples with what they are; none are held out if there are none.

    Returns:
        The task, called name-problem.
    """
    classify = problem == "classification"
    sign = lambda of: np.where(of, 1, -1).astype(inputs.dtype)
    targets = lambda of: of.astype(int) if classify else sign(of)
    return _with_targets(name, problem, inputs, positive, targets, provenance, facts, held_out)


def _with_targets(
    name: str, problem: str, inputs, labels, targets: Callable, provenance, facts, held_out
) -> Task:
    """A task whose targets are a function of labels, those of held-out samples too."""
    further = None
    if held_out is not None and len(held_out[1]):
        further = held_out[0], targets(held_out[1])
        provenance = {**provenance, **provenance_of(held_out[1])}
    return supervised(
        inputs,
        targets(labels),
        "cross-entropy" if problem == "classification" else "squared",
        name=f"{name}-{problem}",
        provenance=provenance,
        facts=facts,
        held_out=further,
    )


def constant_loss(labels: np.ndarray, problem: str, *, signs: bool = False) -> float:
    """The least loss of an output that is the same for all samples.

    With q_c the share of class c it is 1 - sum q_c^2 for one-hot targets, the entropy
    -sum q_c log q_c for cross-entropy, and 1 - (mean target)^2 for targets 1 and -1.

    Args:
        labels: (samples,), classes.
        problem: as for `labelled`.
        signs: whether two classes have the targets of `two_classes`.

    Returns:
        The loss.
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    if problem == "classification":
        return float(-np.sum(shares * np.log(shares)))
    spread = 1 - np.sum(shares**2)
    # 1 - (q_1 - q_2)^2 = 4 q_1 q_2, twice the spread of one-hot targets.
    return float(2 * spread if signs else spread)
