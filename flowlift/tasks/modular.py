"""Addition modulo p: the task on which networks were first seen to generalise late."""

import numpy as np

from ..memory import check_memory
from ..precision import check_precision
from ..registry import register
from .arguments import count, number, one_of
from .held_out import HeldOut, split_samples
from .labelled import check_problem, constant_loss, labelled
from .task import Task

FORMS = ("one-hot", "tokens")


@register("task")
def modular_addition(
    modulus: int,
    *,
    fraction: float = 1.0,
    inputs: str = "one-hot",
    problem: str = "regression",
    seed: int = 0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn (a, b) -> a + b mod p from a fraction of the table of all p^2 pairs.

    Power et al., "Grokking", arXiv 2201.02177, with cross-entropy; Gromov, arXiv 2301.02679, with
    squared loss of one-hot targets and two layers of quadratic units.

    Args:
        modulus: p, at least 2.
        fraction: of the p^2 pairs, drawn without replacement; round(fraction p^2) of them.
        inputs: "one-hot", the two one-hot vectors one after the other, (2 p,); "tokens", each as
            a token, (2, p).
        problem: "regression", one-hot targets in R^p and squared loss (summed over the p outputs,
            mean over samples); "classification", labels and softmax cross-entropy.
        seed: seeds the choice of pairs.
        held_out: how many further pairs, or which fraction of all p^2, a flow's loss and accuracy
            are recorded on; None for none. With 1 - `fraction` they are all others.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "pairs", the (a, b) in the order of the samples; "least loss", 0,
        which cross-entropy approaches only; "constant loss", the least loss of a constant output.

    Raises:
        ValueError: for a modulus below 2, a fraction outside (0, 1] or of no pair, an unknown form
            or problem, or samples that exceed the machine's memory.
    """
    check_precision(precision)
    check_problem(problem)
    p, share = count("modulus", modulus, 2), number("fraction", fraction)
    one_of("inputs", inputs, FORMS)
    samples = round(share * p * p) if share <= 1 else 0
    if samples < 1:
        raise ValueError(
            f"Argument `fraction` must be above 0, at most 1, and of at least one of {p * p} "
            f"pairs, but is {fraction!r}; give e.g. 0.5."
        )
    # Two one-hot inputs and a one-hot target of p numbers each, in float32 at least.
    check_memory("modulus", p, 12 * p * samples, f"one-hot vectors of {samples} pairs")
    chosen, others = split_samples(samples, held_out, p * p, seed)
    pairs, further = (np.stack(np.divmod(of, p), axis=1) for of in (chosen, others))
    labels = pairs.sum(1) % p

    def given(pairs: np.ndarray) -> np.ndarray:
        x = np.eye(p, dtype=precision)[pairs]
        return x.reshape(len(pairs), 2 * p) if inputs == "one-hot" else x

    return labelled(
        given(pairs),
        labels,
        p,
        problem,
        name="modular-addition",
        provenance={
            "source": "arXiv 2201.02177, 2301.02679",
            "modulus": p,
            "fraction": share,
            "seed": seed,
        },
        facts={
            "pairs": pairs,
            "least loss": 0.0,
            "constant loss": constant_loss(labels, problem),
        },
        held_out=(given(further), further.sum(1) % p),
    )
