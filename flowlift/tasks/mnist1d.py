"""MNIST-1D: ten classes of short one-dimensional signals, generated without a download."""

import functools
import random

import numpy as np

from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .held_out import HeldOut, held_out_count, split_samples
from .labelled import check_problem, check_shape, labelled
from .task import Task

LENGTH = 40


@register("task")
def mnist1d(
    samples: int | None = None,
    *,
    problem: str = "regression",
    seed: int = 0,
    shape: tuple[int, ...] = (LENGTH,),
    held_out: HeldOut = None,
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
        held_out: how many of the authors' own 1000 test signals, or which fraction of them, 1.0 for
            all, a flow's loss and accuracy are recorded on; None for none. They are no training
            signals, so that these never change.
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
    (signals, labels), (others, their_labels) = _generate()
    chosen, _ = split_samples(samples, None, len(labels), seed)
    # The whole is the one fraction that is not between 0 and 1.
    kept = len(others) if held_out == 1.0 and isinstance(held_out, float) else held_out
    count = held_out_count(kept, len(others), len(others))
    tested = stream(seed, Purpose.HELD_OUT).permutation(len(others))[:count]
    return labelled(
        signals[chosen].reshape(-1, *shape).astype(precision),
        labels[chosen],
        10,
        problem,
        name="mnist1d",
        provenance={
            "source": "mnist1d.data.make_dataset, default arguments",
            "samples": len(chosen),
            "seed": seed,
        },
        held_out=(others[tested].reshape(-1, *shape).astype(precision), their_labels[tested]),
    )


@functools.cache
def _generate() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The authors' training and test signals, each with their labels."""
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
    return (data["x"], data["y"]), (data["x_test"], data["y_test"])
