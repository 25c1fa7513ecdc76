"""A small regression on real data from inside scikit-learn: 442 patients, ten measurements."""

from ..precision import check_precision
from ..registry import register
from .held_out import HeldOut, provenance_of, split_samples
from .labelled import check_shape, from_sklearn
from .linear_fits import least_affine_loss
from .task import Task, supervised


@register("task")
def diabetes(
    samples: int | None = None,
    *,
    seed: int = 0,
    shape: tuple[int, ...] = (10,),
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Predict the progression of diabetes after a year (Efron et al., Ann. Statist. 32, 2004).

    Measurements and target are each scaled to mean 0 and variance 1 over the whole data set, so
    that the best constant has L = 1 (squared loss, mean over samples). Real data, no download.

    Args:
        samples: how many of the 442 patients, drawn without replacement; None for all
            that are not held out.
        seed: seeds the choice of samples.
        shape: of one input, e.g. (10,) or (1, 10).
        held_out: how many further patients, or which fraction of the 442, a flow's loss is recorded
            on; None for none. For one seed they are the same whatever `samples` is.
        precision: "float64" or "float32".

    Returns:
        The task, with inputs (samples, *shape) and scalar targets. Its facts hold "linear loss",
        the least loss of an affine function on these samples.

    Raises:
        ValueError: for numbers of samples outside 1..442 or more together, or a shape that does not
            hold 10 numbers.
        ImportError: without scikit-learn.
    """
    check_precision(precision)
    inputs, targets = from_sklearn("diabetes")
    chosen, others = split_samples(samples, held_out, len(targets), seed)
    check_shape(shape, inputs.shape[1], "(10,) or (1, 10)")
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    targets = (targets - targets.mean()) / targets.std()
    x, y = inputs.reshape(-1, *shape).astype(precision), targets.astype(precision)
    return supervised(
        x[chosen],
        y[chosen],
        name="diabetes",
        provenance={
            "source": "sklearn.datasets.load_diabetes",
            "samples": len(chosen),
            "seed": seed,
            **provenance_of(others),
        },
        facts={"linear loss": least_affine_loss(inputs[chosen], targets[chosen])},
        held_out=(x[others], y[others]) if len(others) else None,
    )
