"""Single- and multi-index models: targets that see few directions of a Gaussian input."""

from collections.abc import Mapping

import numpy as np

from ..memory import check_memory
from ..numbers import whole
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .arguments import count, mapping, number, several, with_noise
from .held_out import HeldOut, held_out_count, provenance_of
from .hermite import hermite
from .task import Task, supervised

Degrees = tuple[int, ...]


@register("task")
def single_index(
    inputs: int,
    coefficients: Mapping[int, float],
    *,
    samples: int,
    seed: int,
    noise: float = 0.0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn f(x) = sum_k c_k he_k(<w, x>) of x ~ N(0, I_d), with squared loss.

    he_k is the normalised probabilists' Hermite polynomial, see `hermite`, and w uniform on the
    unit sphere. The information exponent is the least k >= 1 with c_k != 0 (Ben Arous, Gheissari
    & Jagannath, JMLR 22 (2021), arXiv 2003.10409).

    Args:
        inputs: d.
        coefficients: degree k to c_k.
        samples: n.
        seed: seeds inputs and noise, and, by another stream, w.
        noise: standard deviation of Gaussian noise added to the targets.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss is
            recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "directions", w as a row, (1, d); "information exponent", None for
        a constant; "target power" E f^2 = sum c_k^2, and "target variance" without c_0^2, over all
        x; without noise, "least loss" = 0.

    Raises:
        ValueError: for no coefficients, degrees below 0, numbers that are not finite, or samples
            that exceed the machine's memory.
    """
    terms = {
        (_degree("coefficients", k),): number(f"coefficients[{k}]", c)
        for k, c in mapping("coefficients", coefficients, "{2: 1.0}").items()
    }
    _check_terms("coefficients", terms, len(coefficients), "{2: 1.0}")
    recorded = {k: c for (k,), c in terms.items()}
    data = {"source": "arXiv 2003.10409", "coefficients": recorded}
    facts = {"information exponent": _information_exponent(terms)}
    return _task(
        "single-index", inputs, terms, samples, seed, noise, held_out, precision, data, facts
    )


@register("task")
def multi_index(
    inputs: int,
    terms: Mapping[str, float],
    *,
    samples: int,
    seed: int,
    noise: float = 0.0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn f(x) = sum_a c_a prod_j he_{a_j}(<w_j, x>) of x ~ N(0, I_d), with squared loss.

    he_k is the normalised probabilists' Hermite polynomial, see `hermite`; w_1, ..., w_r are
    orthonormal, uniform among such frames. The leap is the least number m such that the terms can
    be put in an order in which each one adds degree at most m in directions that no earlier one
    has (Abbe, Boix-Adsera & Misiakiewicz, COLT 2023, arXiv 2302.11055): in the basis given. A
    rotation of the frame may have a larger one, and theirs, for isotropic inputs, is the largest.

    Args:
        inputs: d, at least r.
        terms: the degrees a_1 .. a_r, as in "2 0 1" or (2, 0, 1), to c_a.
        samples: n.
        seed: seeds inputs and noise, and, by another stream, the frame.
        noise: standard deviation of Gaussian noise added to the targets.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss is
            recorded on; None for none. They have a stream of their own.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "directions", the w_j as rows, (r, d); "information exponent", the
        least degree |a| >= 1; "leap", in this basis; both None for a constant; "target power" and
        "target variance" over all x; without noise, "least loss" = 0.

    Raises:
        ValueError: for no terms, terms of different numbers of directions, degrees below 0, more
            directions than inputs, numbers that are not finite, or samples that exceed the
            machine's memory.
    """
    given = mapping("terms", terms, '{"1 0": 1.0}')
    found = {_degrees(key): number(f"terms[{key!r}]", c) for key, c in given.items()}
    _check_terms("terms", found, len(terms), '{"1 0": 1.0, "1 1": 1.0}')
    recorded = {" ".join(map(str, a)): c for a, c in found.items()}
    data = {"source": "arXiv 2302.11055", "terms": recorded}
    facts = {"information exponent": _information_exponent(found), "leap": leap(found)}
    return _task(
        "multi-index", inputs, found, samples, seed, noise, held_out, precision, data, facts
    )


def leap(terms: Mapping[Degrees, float]) -> int | None:
    """The leap of a sum of Hermite terms, in their basis: see `multi_index`.

    Taking what adds least first is best: any order meets, at the first term that it lacks, one
    that adds at least as much.

    Args:
        terms: degrees to coefficient; those of coefficient 0 do not count.

    Returns:
        The leap; None for a constant.
    """
    left = [a for a, c in terms.items() if c != 0 and any(a)]
    seen: set[int] = set()
    steps = []
    while left:
        added = [sum(k for j, k in enumerate(a) if j not in seen) for a in left]
        steps.append(min(added))
        first = left.pop(added.index(steps[-1]))
        seen |= {j for j, k in enumerate(first) if k}
    return max(steps, default=None)


def _task(name, inputs, terms, samples, seed, noise, held_out, precision, data, facts) -> Task:
    check_precision(precision)
    r = len(next(iter(terms)))
    d, n, sigma = count("inputs", inputs, r), count("samples", samples), number("noise", noise, 0)
    # Inputs in float64, and at least half as much again in the precision asked for.
    check_memory("samples", n, 12 * d * n, f"inputs of {d} numbers each")
    frame = _frame(r, d, seed)
    kept = held_out_count(held_out, n)

    def draw(samples: int, purpose: Purpose) -> tuple[np.ndarray, np.ndarray]:
        rng = stream(seed, purpose)
        x = rng.standard_normal((samples, d))
        targets = _values(terms, x @ frame.T)
        return x.astype(precision), with_noise(targets, sigma, rng, precision)

    power = sum(c**2 for c in terms.values())
    mean = sum(c for a, c in terms.items() if not any(a))
    known = {"directions": frame, "target power": power, "target variance": power - mean**2}
    return supervised(
        *draw(n, Purpose.DATA),
        name=name,
        provenance=data
        | {"inputs": d, "samples": n, "seed": seed, "noise": sigma}
        | provenance_of(kept),
        facts=facts | known | ({} if sigma else {"least loss": 0.0}),
        held_out=draw(kept, Purpose.HELD_OUT) if kept else None,
    )


def _values(terms: Mapping[Degrees, float], z: np.ndarray) -> np.ndarray:
    """f at projections z, (n, r)."""
    total = np.zeros(len(z))
    for a, c in terms.items():
        total += c * np.prod([hermite(k, z[:, j]) for j, k in enumerate(a)], axis=0)
    return total


def _frame(rows: int, d: int, seed: int) -> np.ndarray:
    """Orthonormal rows, uniform: those of a Gaussian matrix, with the signs of its own diagonal."""
    draws = stream(seed, Purpose.TEACHER).standard_normal((d, rows))
    q, r = np.linalg.qr(draws)
    return (q * np.sign(np.diagonal(r))).T


def _information_exponent(terms: Mapping[Degrees, float]) -> int | None:
    return min((sum(a) for a, c in terms.items() if c != 0 and any(a)), default=None)


def _degrees(key: object) -> Degrees:
    parts = key.split() if isinstance(key, str) else several("terms", key, '"1 0"')
    found = [int(p) if isinstance(p, str) and p.isdigit() else p for p in parts]
    return tuple(_degree("terms", k) for k in found)


def _degree(name: str, value: object) -> int:
    degree = whole(value)
    if degree is None or degree < 0:
        raise ValueError(
            f"Argument `{name}` must have degrees of at least 0, whole numbers, as keys, but has "
            f"{value!r:.60}; correct it."
        )
    return degree


def _check_terms(name: str, terms: Mapping[Degrees, float], given: int, example: str) -> None:
    if not terms or len({len(a) for a in terms}) > 1 or len(terms) < given:
        raise ValueError(
            f"Argument `{name}` must hold at least one term, each once and with a degree for every "
            f"direction, but holds {[' '.join(map(str, a)) for a in terms]}; give e.g. {example}."
        )
