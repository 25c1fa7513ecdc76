"""Orthogonal and nearly orthogonal inputs with labels that do not depend on them."""

import numpy as np

from ..memory import check_memory
from ..numbers import real
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .arguments import count, one_of
from .held_out import HeldOut, held_out_count, provenance_of
from .linear_fits import least_linear_loss
from .task import Task, supervised

DIRECTIONS = ("isotropic", "orthogonal")
Range = tuple[float, float]


@register("task")
def random_labels(
    inputs: int,
    samples: int,
    *,
    seed: int,
    directions: str = "isotropic",
    norms: Range = (1.0, 2.0),
    labels: Range = (1.0, 2.0),
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn labels of random sign on isotropic or orthogonal inputs, with squared loss.

    The direction of x_i is uniform on the sphere of R^d: inner products of unit vectors are then of
    size d^(-1/2), nearly orthogonal where d is large beside log n. |x_i| and |y_i| are uniform on
    intervals, the sign of y_i is fair, all independent: with the defaults the data of Dana, Bach &
    Pillaud-Vivien, NeurIPS 2025, arXiv 2502.16977. Orthogonal inputs are those of Boursier,
    Pillaud-Vivien & Flammarion, NeurIPS 2022, arXiv 2206.00939.

    Args:
        inputs: d.
        samples: n.
        seed: of all draws.
        directions: "isotropic", independent; "orthogonal", a uniform frame, n <= d.
        norms: the interval of |x_i|, (1, 1) for unit vectors.
        labels: the interval of |y_i|, (1, 1) for signs.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss is
            recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task, with scalar targets. Its facts hold "least loss" = 0, since all inputs differ;
        "linear loss", the least loss of a linear function without bias: 0 where n <= d.

    Raises:
        ValueError: for numbers outside their ranges, intervals that are none, more orthogonal
            samples than dimensions, or samples that exceed the machine's memory.
    """
    check_precision(precision)
    one_of("directions", directions, DIRECTIONS)
    d = count("inputs", inputs)
    n = count("samples", samples, 1, d if directions == "orthogonal" else None)
    radii, sizes = _interval("norms", norms), _interval("labels", labels)
    # Directions in float64, and inputs in the precision asked for.
    check_memory("samples", n, 12 * d * n, f"inputs of {d} numbers each")
    kept = held_out_count(held_out, n, d if directions == "orthogonal" else None)

    def draw(count: int, purpose: Purpose) -> tuple[np.ndarray, np.ndarray]:
        rng = stream(seed, purpose)
        x = _unit_vectors(count, d, directions, rng) * rng.uniform(*radii, (count, 1))
        return x, rng.choice([-1.0, 1.0], count) * rng.uniform(*sizes, count)

    x, y = draw(n, Purpose.DATA)
    further = draw(kept, Purpose.HELD_OUT)
    return supervised(
        x.astype(precision),
        y.astype(precision),
        name="random-labels",
        provenance={
            "source": "arXiv 2502.16977, 2206.00939",
            "inputs": d,
            "samples": n,
            "seed": seed,
            "directions": directions,
            "norms": list(radii),
            "labels": list(sizes),
            **provenance_of(kept),
        },
        facts={"least loss": 0.0, "linear loss": 0.0 if n <= d else least_linear_loss(x, y)},
        held_out=(further[0].astype(precision), further[1].astype(precision)) if kept else None,
    )


def _unit_vectors(n: int, d: int, directions: str, rng: np.random.Generator) -> np.ndarray:
    draws = rng.standard_normal((n, d))
    if directions == "isotropic":
        return draws / np.linalg.norm(draws, axis=1, keepdims=True)
    q, r = np.linalg.qr(draws.T)
    return (q * np.sign(np.diagonal(r))).T


def _interval(name: str, given: Range) -> Range:
    ends = [real(end) for end in given] if isinstance(given, list | tuple) else []
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
        low, high = ends[0], ends[1]
        if 0 < low <= high < np.inf:
            return low, high
    raise ValueError(
        f"Argument `{name}` must be an interval (low, high) of positive numbers, but is "
        f"{given!r:.60}; give e.g. (1.0, 2.0)."
    )
