"""Gaussian clusters: opposite or orthogonal centres, one for each class, and XOR."""

import math
from functools import partial

import numpy as np

from ..memory import check_memory
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .arguments import count, number
from .held_out import HeldOut, held_out_count
from .labelled import check_problem, labelled, two_classes
from .task import Task


@register("task")
def gaussian_mixture(
    inputs: int,
    samples: int,
    *,
    distance: float,
    seed: int,
    classes: int = 2,
    noise: float = 1.0,
    problem: str = "regression",
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Tell apart Gaussian clusters N(mu_c, noise^2 I_d), all equally likely.

    Two classes have the centres distance (1, 0, ..., 0) and its opposite; more have orthogonal
    centres, distance times the first coordinate vectors. With m = distance / noise and Phi the
    normal distribution function, the least error of any classifier is Phi(-m) for two, and
    1 - int phi(z - m) Phi(z)^(c-1) dz for c > 2.

    Args:
        inputs: d, at least the number of centres that must be orthogonal.
        samples: n, each of a class drawn independently.
        distance: of every centre from 0, positive.
        seed: seeds classes and noise.
        classes: c, at least 2.
        noise: standard deviation of every coordinate, positive.
        problem: "regression", squared loss with targets 1 and -1 of two classes, one-hot in R^c of
            more; "classification", labels and softmax cross-entropy of c logits.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss and
            accuracy are recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "centres", (c, d), and "least error".

    Raises:
        ValueError: for numbers outside their ranges, an unknown problem, or samples that exceed
            the machine's memory.
    """
    c = count("classes", classes, 2)
    d, n = _checked(inputs, 1 if c == 2 else c, samples, problem, precision)
    far, sigma = number("distance", distance, 0, above=True), number("noise", noise, 0, above=True)
    rows = np.concatenate([np.eye(1, d), -np.eye(1, d)]) if c == 2 else np.eye(c, d)
    kept = held_out_count(held_out, n)
    draw = partial(_draw, far * rows, sigma, seed, precision)
    (x, labels), further = draw(n, Purpose.DATA), draw(kept, Purpose.HELD_OUT)
    given = {
        "name": "gaussian-mixture",
        "provenance": {"classes": c} | _provenance(d, n, far, sigma, seed),
        "facts": {"centres": far * rows, "least error": mixture_error(far / sigma, c)},
    }
    if c == 2:
        held = further[0], further[1] == 0
        return two_classes(x, labels == 0, problem, **given, held_out=held)
    return labelled(x, labels, c, problem, **given, held_out=further)


@register("task")
def xor_clusters(
    inputs: int,
    samples: int,
    *,
    distance: float,
    seed: int,
    noise: float = 1.0,
    problem: str = "regression",
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Tell the clusters at +-distance e_1 (positive) from those at +-distance e_2 (negative).

    N(centre, noise^2 I_d) each, all four equally likely: no linear function tells anything, kernels
    need many samples, networks few (Refinetti, Goldt, Krzakala & Zdeborova, ICML 2021, arXiv
    2102.11742; Frei, Chatterji & Bartlett, JMLR 2023, arXiv 2202.07626). Best is to compare |x_1|
    with |x_2|, which errs with probability 2 Phi(m / sqrt 2) Phi(-m / sqrt 2), m = distance /
    noise, since x_1 + x_2 and x_1 - x_2 are independent.

    Args:
        inputs: d, at least 2.
        samples: n, each of a cluster drawn independently.
        distance: of every centre from 0, positive.
        seed: seeds clusters and noise.
        noise: standard deviation of every coordinate, positive.
        problem: "regression", targets 1 and -1, squared loss; "classification", labels 1 and 0,
            softmax cross-entropy of two logits.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss and
            accuracy are recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "centres", (4, d), the positive ones first, and "least error".

    Raises:
        ValueError: for numbers outside their ranges, an unknown problem, or samples that exceed
            the machine's memory.
    """
    d, n = _checked(inputs, 2, samples, problem, precision)
    far, sigma = number("distance", distance, 0, above=True), number("noise", noise, 0, above=True)
    centres = far * np.repeat(np.eye(2, d), 2, axis=0) * np.array([1, -1, 1, -1])[:, None]
    kept = held_out_count(held_out, n)
    draw = partial(_draw, centres, sigma, seed, precision)
    (x, clusters), further = draw(n, Purpose.DATA), draw(kept, Purpose.HELD_OUT)
    half = far / sigma / math.sqrt(2)
    return two_classes(
        x,
        clusters < 2,
        problem,
        name="xor-clusters",
        provenance={"source": "arXiv 2102.11742, 2202.07626"} | _provenance(d, n, far, sigma, seed),
        facts={"centres": centres, "least error": 2 * _below(half) * _below(-half)},
        held_out=(further[0], further[1] < 2),
    )


def _draw(
    centres: np.ndarray, sigma: float, seed: int, precision: str, n: int, purpose: Purpose
) -> tuple[np.ndarray, np.ndarray]:
    """Points of clusters, and which."""
    rng = stream(seed, purpose)
    of = rng.integers(0, len(centres), n)
    noise = sigma * rng.standard_normal((n, centres.shape[1]))
    return (centres[of] + noise).astype(precision), of


def mixture_error(m: float, classes: int) -> float:
    """The least error for the centres of `gaussian_mixture`.

    Args:
        m: distance of the centres from 0, in standard deviations.
        classes: c.

    Returns:
        The probability of an error.
    """
    if classes == 2:
        return _below(-m)
    # 1 - int phi(z - m) Phi(z)^(c-1) dz, after z -> z + m. The nodes end at 12 standard deviations,
    # beyond which less than 1e-32 lies, and the trapezoidal rule errs by rounding alone.
    z = np.linspace(-12, 12, 1201)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([_below(one) for one in z + m])
    return float(np.sum(density * (1 - below ** (classes - 1))) * (z[1] - z[0]))


def _below(z: float) -> float:
    """Phi(z)."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _checked(inputs, least: int, samples, problem: str, precision: str) -> tuple[int, int]:
    check_precision(precision)
    check_problem(problem)
    d, n = count("inputs", inputs, least), count("samples", samples)
    # Centres and noise in float64, and inputs in the precision asked for.
    check_memory("samples", n, 20 * d * n, f"inputs of {d} numbers each")
    return d, n


def _provenance(d: int, n: int, distance: float, noise: float, seed: int) -> dict[str, object]:
    return {"inputs": d, "samples": n, "distance": distance, "noise": noise, "seed": seed}
