"""A small regression on real data from inside scikit-learn: 442 patients, ten measurements."""

from ..precision import check_precision
from ..registry import register
from .labelled import check_shape, choose_samples, from_sklearn
from .linear_fits import least_affine_loss
from .task import Task, supervised


@register("task")
def diabetes(
    samples: int | None = None,
    *,
    seed: int = 0,
    shape: tuple[int, ...] = (10,),
    precision: str = "float64",
) -> Task:
    """Predict the progression of diabetes after a year (Efron et al., Ann. Statist. 32, 2004).

    Measurements and target are each scaled to mean 0 and variance 1 over the whole data set, so
    that the best constant has L = 1 (squared loss, mean over samples). Real data, no download.

    Args:
        samples: how many of the 442 patients, drawn without replacement; None for all.
        seed: seeds the choice of samples.
        shape: of one input, e.g. (10,) or (1, 10).
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape) and scalar targets. Its facts hold "linear loss",
        the least loss of an affine function on these samples.

    Raises:
        ValueError: for a number of samples outside 1..442, or a shape that does not hold 10
            numbers.
        ImportError: without scikit-learn.
    """
    check_precision(precision)
    inputs, targets = from_sklearn("diabetes")
    chosen = choose_samples(samples, len(targets), seed)
    check_shape(shape, inputs.shape[1], "(10,) or (1, 10)")
    x = ((inputs - inputs.mean(0)) / inputs.std(0))[chosen]
    y = ((targets - targets.mean()) / targets.std())[chosen]
    return supervised(
        x.reshape(len(y), *shape).astype(precision),
        y.astype(precision),
        name="diabetes",
        provenance={
            "source": "sklearn.datasets.load_diabetes",
            "samples": len(y),
            "seed": seed,
        },
        facts={"linear loss": least_affine_loss(x, y)},
    )
