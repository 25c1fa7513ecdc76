"""Linear targets on inputs of a given spectrum: the exactly solvable model of scaling laws."""

import numpy as np

from ..memory import check_memory
from ..numbers import real
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .arguments import count, number, several, with_noise
from .held_out import HeldOut, held_out_count, provenance_of
from .linear_fits import least_linear_loss
from .task import Task, supervised

Law = float | tuple[float, ...]


@register("task")
def linear_teacher(
    inputs: int,
    *,
    spectrum: Law,
    powers: Law,
    samples: int | None = None,
    seed: int = 0,
    noise: float = 0.0,
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn y = <w*, x>, x of covariance diag(lambda_k), with squared loss.

    p_k = lambda_k w*_k^2 is what coordinate k adds to E y^2. A linear model w that starts at 0 has

        L(t) = sum_k p_k e^(-4 lambda_k t),    lambda_k = k^-a, p_k = k^-b: L ~ t^(-(b - 1) / a)

    for b > 1 and t below 1 / lambda_d, on all x: the model of Bordelon, Atanasov & Pehlevan, ICML
    2024, arXiv 2402.01092, and of Paquette et al., NeurIPS 2024, arXiv 2405.15074.

    Args:
        inputs: d.
        spectrum: a number a for lambda_k = k^-a, k = 1 .. d; or the d values, positive.
        powers: a number b for p_k = k^-b; or the d values, not negative.
        samples: n Gaussian inputs. None for the d inputs sqrt(d lambda_k) e_k, whose mean of
            x x^T is the covariance itself: linear and deep linear models then flow as on all x.
        seed: seeds inputs and noise.
        noise: standard deviation of Gaussian noise added to the targets.
        held_out: how many further samples, or which fraction of `samples`, a flow's loss is
            recorded on; None for none, as without samples. They have a stream
            of their own.
        precision: "float64" or "float32".

    Returns:
        The task, with scalar targets. Its facts hold "teacher weights" w*, "spectrum" lambda_k,
        "powers" p_k; without noise, "least loss" = 0; "linear loss", the least of linear functions.

    Raises:
        ValueError: for numbers outside their ranges, laws of another length, noise without samples,
            or inputs that exceed the machine's memory.
    """
    check_precision(precision)
    d, sigma = count("inputs", inputs), number("noise", noise, 0)
    n = d if samples is None else count("samples", samples)
    kept = held_out_count(held_out, n)
    if samples is None:
        _check_exact(noise if sigma else 0, held_out)
    # Inputs in float64, and in the precision asked for.
    name, value = ("inputs", d) if samples is None else ("samples", n)
    check_memory(name, value, 12 * d * n, f"{n} inputs of {d} numbers each")
    values = _law("spectrum", spectrum, d, positive=True)
    parts = _law("powers", powers, d, positive=False)
    weights, rng = np.sqrt(parts / values), stream(seed, Purpose.DATA)
    if samples is None:
        x = np.diag(np.sqrt(d * values))
    else:
        x = rng.standard_normal((n, d)) * np.sqrt(values)
    y = with_noise(x @ weights, sigma, rng, "float64")
    facts = {"teacher weights": weights, "spectrum": values, "powers": parts}
    exact = {"linear loss": least_linear_loss(x, y)} if sigma else _EXACT
    return supervised(
        x.astype(precision),
        y.astype(precision),
        name="linear-teacher",
        provenance={
            "source": "arXiv 2402.01092, 2405.15074",
            "inputs": d,
            "samples": "exact" if samples is None else n,
            "spectrum": _recorded(spectrum),
            "powers": _recorded(powers),
            "seed": seed,
            "noise": sigma,
            **provenance_of(kept),
        },
        facts=facts | exact,
        held_out=_further(kept, values, weights, sigma, seed, precision) if kept else None,
    )


def _check_exact(noise: float, held_out: HeldOut) -> None:
    """Refuse what the exact design has not."""
    for name, value, none in (("noise", noise, 0), ("held_out", held_out, None)):
        if value != none:
            raise ValueError(
                f"Argument `{name}` must be {none} without samples, but is {value!r}: the exact "
                "design has none; give a number of samples."
            )


def _further(count: int, values, weights, noise: float, seed: int, precision: str):
    """Held-out inputs and targets, by a stream of their own."""
    rng = stream(seed, Purpose.HELD_OUT)
    x = rng.standard_normal((count, len(values))) * np.sqrt(values)
    return x.astype(precision), with_noise(x @ weights, noise, rng, precision)


_EXACT = {"linear loss": 0.0, "least loss": 0.0}


def _law(name: str, given: Law, d: int, *, positive: bool) -> np.ndarray:
    exponent = real(given)
    if exponent is not None:
        with np.errstate(over="ignore", under="ignore"):
            values = np.arange(1, d + 1) ** -number(name, exponent)
    else:
        values = np.array([number(name, value) for value in several(name, given, "[1.0, 0.5]")])
    low = values <= 0 if positive else values < 0
    if values.shape != (d,) or low.any() or not np.isfinite(values).all():
        raise ValueError(
            f"Argument `{name}` must be an exponent, or {d} {'positive ' if positive else ''}"
            f"numbers, one for each input{'' if positive else ', not negative'}, but is "
            f"{given!r:.60}; correct it."
        )
    return values


def _recorded(given: Law) -> object:
    return real(given) if real(given) is not None else [float(v) for v in given]  # pyright: ignore
