"""The handwritten digits that ship inside scikit-learn: 1797 images of 8 x 8, ten classes."""

import numpy as np

from ..lift import Purpose, stream
from ..precision import check_precision
from .task import Task, supervised

PROBLEMS = ("regression", "classification")


def digits(
    samples: int | None = None,
    *,
    problem: str = "regression",
    seed: int = 0,
    shape: tuple[int, ...] = (64,),
    precision: str = "float64",
) -> Task:
    """Learn to read digits. Real data, no download.

    Pixels are scaled by one affine map for all, to mean 0 and variance 1 over the whole data set.

    Args:
        samples: how many of the 1797 images, drawn without replacement; None for all.
        problem: "regression", one-hot targets in R^10 and squared loss (summed over the ten
            outputs, mean over samples); "classification", labels and softmax cross-entropy.
        seed: seeds the choice of samples.
        shape: of one input, e.g. (64,), (8, 8) (rows as tokens) or (1, 8, 8).
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape).

    Raises:
        ValueError: for an unknown problem, a number of samples outside 1..1797, or a shape that
            does not hold 64 numbers.
        ImportError: without scikit-learn.
    """
    check_precision(precision)
    pixels, labels = _load()
    count = len(labels) if samples is None else samples
    if problem not in PROBLEMS:
        raise ValueError(
            f"Argument `problem` must be one of {', '.join(PROBLEMS)}, but is {problem!r}; "
            "choose one."
        )
    if not isinstance(count, int) or not 1 <= count <= len(labels):
        raise ValueError(
            f"Argument `samples` must be an integer from 1 to {len(labels)}, but is {samples!r}; "
            "give fewer, or None for all."
        )
    if np.prod(shape) != pixels.shape[1]:
        raise ValueError(
            f"Argument `shape` must hold {pixels.shape[1]} numbers, but is {shape}; "
            "give e.g. (64,) or (8, 8)."
        )
    chosen = stream(seed, Purpose.DATA).permutation(len(labels))[:count]
    x = ((pixels - pixels.mean()) / pixels.std())[chosen].reshape(count, *shape).astype(precision)
    provenance = {"source": "sklearn.datasets.load_digits", "samples": count, "seed": seed}
    name = f"digits-{problem}"
    if problem == "classification":
        return supervised(x, labels[chosen], "cross-entropy", name=name, provenance=provenance)
    targets = np.eye(10, dtype=precision)[labels[chosen]]
    return supervised(x, targets, name=name, provenance=provenance)


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "Task 'digits' needs scikit-learn, which is not installed; run "
            "pip install 'flowlift[data]'."
        ) from error
    return load_digits(return_X_y=True)  # pyright: ignore[reportReturnType]
