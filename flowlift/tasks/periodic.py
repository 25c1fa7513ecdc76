"""Periodic signals: sums of given harmonics, on a uniform grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..memory import check_memory
from ..numbers import real, whole
from ..precision import check_precision, check_real
from ..registry import register
from ..streams import Purpose, stream
from .held_out import HeldOut, held_out_count, provenance_of
from .task import Task, supervised


@register("task")
def periodic(
    harmonics: Mapping[int, float | tuple[float, float]],
    *,
    samples: int = 256,
    embedding: str = "circle",
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn f*(s) = sum_k a_k sin(2 pi k s) + b_k cos(2 pi k s) on s = 0, 1/n, ..., (n-1)/n.

    The grid is uniform, so the mean over samples of squares is the exact L^2 norm of any
    trigonometric polynomial of degree below n/2.

    Args:
        harmonics: frequency k >= 0 to a_k or (a_k, b_k).
        samples: grid points n, more than twice the largest frequency.
        embedding: "circle", inputs (cos 2 pi s, sin 2 pi s), d = 2; "line", inputs 2 s - 1, d = 1.
        held_out: how many further points, or which fraction of `samples`, a flow's loss is recorded
            on; None for none. They are uniform on [0, 1), off the grid, always the same ones.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "target power", the mean of f*^2.

    Raises:
        ValueError: for no or unresolved harmonics, non-finite coefficients, an unknown embedding,
            or samples that exceed the machine's memory.
    """
    check_precision(precision)
    coefficients = _whole_frequencies(harmonics)
    points = whole(samples)
    if points is None:
        raise ValueError(
            f"Argument `samples` must be an integer, but is {samples!r}; give the grid points."
        )
    samples = points
    _check_harmonics(coefficients, samples, embedding)
    # The grid, its angles, the circle and the targets: five float64 a sample.
    check_memory("samples", samples, 40 * samples, "five numbers a sample")
    count = held_out_count(held_out, samples)
    signal = lambda s: _signal(s, coefficients, embedding)
    x, targets = signal(np.arange(samples) / samples)
    # One seed: the task has none of its own.
    further = signal(stream(0, Purpose.HELD_OUT).uniform(0, 1, count)) if count else None
    return supervised(
        x.astype(precision),
        targets.astype(precision),
        name="periodic",
        provenance={
            "harmonics": {int(k): [float(a), float(b)] for k, (a, b) in coefficients.items()},
            "samples": samples,
            "embedding": embedding,
            **provenance_of(count),
        },
        facts={"target power": float(np.mean(np.square(targets)))},
        held_out=further and (further[0].astype(precision), further[1].astype(precision)),
    )


def _signal(
    s: np.ndarray, coefficients: dict[int, np.ndarray], embedding: str
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets at some s."""
    targets = sum(
        a * np.sin(2 * np.pi * k * s) + b * np.cos(2 * np.pi * k * s)
        for k, (a, b) in coefficients.items()
    )
    angle = 2 * np.pi * s
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return circle if embedding == "circle" else (2 * s - 1)[:, None], np.asarray(targets)


def _whole_frequencies(harmonics: Mapping[Any, Any]) -> dict[int, np.ndarray]:
    """(a_k, b_k) by frequency, a whole number: no other is periodic on the grid."""
    found = {}
    for k, value in harmonics.items():
        number = whole(k)
        if number is None or number in found:
            raise ValueError(
                "Argument `harmonics` must have different whole frequencies as keys, but has "
                f"{k!r}; round it, or choose another period."
            )
        alone = real(value)
        pair = value if alone is None else [alone, 0.0]
        found[number] = np.asarray(pair)
    return found


def _check_harmonics(coefficients, samples: int, embedding: str) -> None:
    if embedding not in ("circle", "line"):
        raise ValueError(
            f"Argument `embedding` must be 'circle' or 'line', but is {embedding!r}; choose one."
        )
    if not coefficients:
        raise ValueError(
            "Argument `harmonics` must hold at least one frequency, but is empty; give e.g. "
            "{1: 1.0}."
        )
    if min(coefficients) < 0 or not samples > 2 * max(coefficients):
        raise ValueError(
            "Argument `harmonics` must hold frequencies from 0 to below samples / 2 = "
            f"{samples / 2:g}, but holds {sorted(coefficients)}; take more samples."
        )
    for k, pair in coefficients.items():
        check_real(f"harmonics[{k}]", pair)
        if pair.shape != (2,) or not np.issubdtype(pair.dtype, np.number):
            raise ValueError(
                f"Argument `harmonics[{k}]` must be a number a_k or a pair (a_k, b_k), but is "
                f"{pair.tolist()!r:.60}; give one of them."
            )
    if not all(np.isfinite(c).all() for c in coefficients.values()):
        raise ValueError(
            f"Argument `harmonics` must have finite coefficients, but has {coefficients}; "
            "correct them."
        )
