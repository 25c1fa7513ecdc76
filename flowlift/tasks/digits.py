"""The handwritten digits that ship inside scikit-learn: 1797 images of 8 x 8, ten classes."""

from ..precision import check_precision
from ..registry import register
from .held_out import HeldOut, split_samples
from .labelled import check_problem, check_shape, from_sklearn, labelled
from .task import Task


@register("task")
def digits(
    samples: int | None = None,
    *,
    problem: str = "regression",
    seed: int = 0,
    shape: tuple[int, ...] = (64,),
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn to read digits. Real data, no download.

    Pixels are scaled by one affine map for all, to mean 0 and variance 1 over the whole data set.

    Args:
        samples: how many of the 1797 images, drawn without replacement; None for all
            that are not held out.
        problem: "regression", one-hot targets in R^10 and squared loss (summed over the ten
            outputs, mean over samples); "classification", labels and softmax cross-entropy.
        seed: seeds the choice of samples.
        shape: of one input, e.g. (64,), (8, 8) (rows as tokens) or (1, 8, 8).
        held_out: how many further images, or which fraction of the 1797, a flow's loss and accuracy
            are recorded on; None for none. For one seed they are the same whatever `samples` is.
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape).

    Raises:
        ValueError: for an unknown problem, numbers of samples outside 1..1797 or more together,
            or a shape that does not hold 64 numbers.
        ImportError: without scikit-learn.
    """
    check_precision(precision)
    check_problem(problem)
    pixels, labels = from_sklearn("digits")
    chosen, others = split_samples(samples, held_out, len(labels), seed)
    check_shape(shape, pixels.shape[1], "(64,) or (8, 8)")
    scaled = ((pixels - pixels.mean()) / pixels.std()).reshape(-1, *shape).astype(precision)
    return labelled(
        scaled[chosen],
        labels[chosen],
        10,
        problem,
        name="digits",
        provenance={
            "source": "sklearn.datasets.load_digits",
            "samples": len(chosen),
            "seed": seed,
        },
        held_out=(scaled[others], labels[others]),
    )
