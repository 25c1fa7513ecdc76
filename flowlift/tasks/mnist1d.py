"""MNIST-1D: ten classes of short one-dimensional signals, generated without a download."""

import functools
import random

import numpy as np

from ..precision import check_precision
from ..registry import register
from .labelled import check_problem, check_shape, choose_samples, labelled
from .task import Task

LENGTH = 40


@register("task")
def mnist1d(
    samples: int | None = None,
    *,
    problem: str = "regression",
    seed: int = 0,
    shape: tuple[int, ...] = (LENGTH,),
    precision: str = "float64",
) -> Task:
    """Tell apart the signals of MNIST-1D (Greydanus & Kobak, ICML 2024).

    The 4000 training signals of length 40 that the authors' package generates with its default
    arguments, shifted and scaled there to mean 0 and variance 1 over all signals.

    Args:
        samples: how many of the 4000, drawn without replacement; None for all.
        problem: "regression" or "classification", as for `digits`.
        seed: seeds the choice of samples; the signals are always the same.
        shape: of one input, e.g. (40,), (1, 40) (one channel) or (5, 8) (tokens).
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape).

    Raises:
        ValueError: for an unknown problem, a number of samples outside 1..4000, or a shape that
            does not hold 40 numbers.
        ImportError: without the package mnist1d.
    """
    check_precision(precision)
    check_problem(problem)
    check_shape(shape, LENGTH, "(40,) or (1, 40)")
    signals, labels = _generate()
    chosen = choose_samples(samples, len(labels), seed)
    return labelled(
        signals[chosen].reshape(len(chosen), *shape).astype(precision),
        labels[chosen],
        10,
        problem,
        name="mnist1d",
        provenance={
            "source": "mnist1d.data.make_dataset, default arguments",
            "samples": len(chosen),
            "seed": seed,
        },
    )


@functools.cache
def _generate() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise ImportError(
            "Task 'mnist1d' needs the package mnist1d, which is not installed; run "
            "pip install 'flowlift[data]'."
        ) from error
    # The package seeds and draws from global generators, which are not ours to change.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        data = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    return data["x"], data["y"]
