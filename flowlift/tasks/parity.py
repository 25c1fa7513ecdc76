"""Sparse parities: the product of k of d signs, invisible to all polynomials of lower degree."""

import numpy as np

from ..memory import check_memory
from ..precision import check_precision
from ..registry import register
from ..streams import Purpose, stream
from .arguments import count
from .held_out import HeldOut, held_out_count
from .labelled import check_problem, constant_loss, two_classes
from .task import Task


@register("task")
def sparse_parity(
    inputs: int,
    degree: int,
    *,
    samples: int | None = None,
    seed: int = 0,
    problem: str = "regression",
    held_out: HeldOut = None,
    precision: str = "float64",
) -> Task:
    """Learn x -> x_1 ... x_k, for x uniform on {-1, 1}^d.

    Barak et al., "Hidden progress in deep learning", NeurIPS 2022, arXiv 2207.08799. On the whole
    cube the parity is orthogonal in L^2 to every function of fewer than k coordinates, so that the
    best affine function has L = 1 for k >= 2 and squared loss. The support is the first k
    coordinates: models with an exchangeable start do not know the order.

    Args:
        inputs: d.
        degree: k, from 1 to d.
        samples: n points drawn independently; None for all 2^d, each once.
        seed: seeds the draw.
        problem: "regression", targets -1 and 1, squared loss; "classification", labels 0 and 1,
            softmax cross-entropy of two logits.
        held_out: how many further points, or which fraction of `samples`, a flow's loss and
            accuracy are recorded on; None for none, as with all 2^d. They have a stream of their
            own, and may coincide with training points.
        precision: "float64" or "float32".

    Returns:
        The task. Its facts hold "support", "least loss" = 0, and "constant loss".

    Raises:
        ValueError: for numbers outside their ranges, an unknown problem, or samples that exceed
            the machine's memory.
    """
    check_precision(precision)
    check_problem(problem)
    d = count("inputs", inputs)
    k = count("degree", degree, 1, d)
    n = 2**d if samples is None else count("samples", samples)
    # The bits as bytes at first, then in the precision asked for.
    name, value = ("inputs", d) if samples is None else ("samples", n)
    check_memory(name, value, 5 * n * d, f"{'all ' if samples is None else ''}points of {d} signs")
    if held_out is not None and samples is None:
        raise ValueError(
            f"Argument `held_out` must be None for all points, but is {held_out!r}; give `samples`."
        )
    further = _drawn(held_out_count(held_out, n), d, seed, Purpose.HELD_OUT)
    bits = _cube(d) if samples is None else _drawn(n, d, seed, Purpose.DATA)
    signs = lambda bits: (1 - 2 * bits.astype(np.int8)).astype(precision)
    parity = lambda bits: bits[:, :k].sum(1) % 2 == 0
    even = parity(bits)
    return two_classes(
        signs(bits),
        even,
        problem,
        name="sparse-parity",
        provenance={
            "source": "arXiv 2207.08799",
            "inputs": d,
            "degree": k,
            "samples": "all" if samples is None else n,
            "seed": seed,
        },
        facts={
            "support": tuple(range(k)),
            "least loss": 0.0,
            "constant loss": constant_loss(even, problem, signs=True),
        },
        held_out=(signs(further), parity(further)),
    )


def _cube(d: int) -> np.ndarray:
    """All of {0, 1}^d, (2^d, d), in the order of binary numbers."""
    numbers = np.arange(2**d)
    columns = [(numbers >> i & 1).astype(np.uint8) for i in reversed(range(d))]
    return np.stack(columns, axis=1)


def _drawn(n: int, d: int, seed: int, purpose: Purpose) -> np.ndarray:
    return stream(seed, purpose).integers(0, 2, (n, d), dtype=np.uint8)
