"""Which method is fastest, and on how many samples at a time: measured thresholds.

Measured by `benchmarks/kernels.py --methods` on two x86-64 cores with 2 MB of L2 cache each; the
table is in docs/kernels.md.
"""

from typing import Any

import jax

from flowlift.kernels.fibre import Fibre
from flowlift.kernels.measured import measured
from flowlift.kernels.slices import WIDEST

METHODS = ("csr", "padded", "dense", "complete", "naive")
# A dense product does n_u x n_v multiply-adds a column instead of one per edge, each this much
# faster than those of 'padded' rows, and of the compressed rows that stand in for wide ones.
_DENSE_GAIN, _DENSE_GAIN_WIDE = 4.0, 6.0
# Products of fewer multiply-adds take so little that compiling fewer loops counts for more; where
# rows are short, starting fewer loops does as well.
_WORTH_UNROLLING, _WORTH_UNROLLING_SHORT = 1 << 13, 1 << 17
_SHORT_COLUMNS = 64
# Ragged rows make several times as many loops, and small lifts gain nothing by them
# (benchmarks/compile_time.py).
_WORTH_SLICING = 1 << 19
# The same for edges that carry matrices and kernels, for rows of one in-degree and for ragged ones,
# whose capacity is padded and whose edge products are taken one by one (docs/kernels.md).
_MATRIX_GAIN, _SLIDING_GAIN = (4.0, 8.0), (2.0, 4.0)
# Multiply-adds of dense products that take some 50 us at most.
_WORTH_GATHERING = 1 << 20
_CACHE_BYTES = 1 << 20
_FEWEST_COLUMNS = 128


def choose(fibre: Fibre, samples: int, dtype: Any, platform: str | None = None) -> str:
    """Choose the fastest method known for a fibre.

    On a CPU: 'dense' where a quarter of all pairs are edges, or a sixth if rows are wide; else
    'csr' for products so small that compilation dominates; else 'padded'. On another device
    what was faster there when it was first used, see `measured`, and 'dense' as far as it was as
    fast; where the device is not at hand to be timed, the rule of a CPU with 'padded' for 'csr'.

    Args:
        fibre: the edges; only its static sizes are looked at.
        samples: columns of the activations: samples × size of the activation space.
        dtype: of weights and activations; the measured thresholds are the same for both.
        platform: 'cpu', 'gpu' or 'tpu'; JAX's default backend if None.

    Returns:
        A name from `METHODS`.
    """
    del dtype
    if fibre.is_complete:
        return "complete"
    platform = jax.default_backend() if platform is None else platform
    pairs = fibre.n_sources * fibre.n_targets
    found = None if platform == "cpu" else measured(platform)
    if found is not None:
        return "dense" if pairs <= found.dense_gain * fibre.capacity else found.sparse
    wide = fibre.capacity > WIDEST * fibre.n_targets
    if pairs <= (_DENSE_GAIN_WIDE if wide else _DENSE_GAIN) * fibre.capacity:
        return "dense"
    least = _WORTH_UNROLLING_SHORT if samples <= _SHORT_COLUMNS else _WORTH_UNROLLING
    if fibre.regular is None:
        least = _WORTH_SLICING
    if platform == "cpu" and fibre.capacity * samples <= least:
        return "csr"
    return "padded"


def choose_array(fibre: Fibre, numbers: int, columns: int, *, sliding: bool = False) -> str:
    """Choose how edges that carry matrices or kernels are summed.

    A program of sparse sums takes two to four times as many loops as one of dense products, each of
    which costs some 20 ms to compile; dense products do n_u x n_v x numbers multiply-adds a column
    in place of capacity x numbers, each of them faster.

    Args:
        fibre: the edges; only its static sizes are looked at.
        numbers: entries of an edge's array.
        columns: samples x size of what is not summed over (tokens, pixels).
        sliding: whether the arrays are kernels that slide, one product per entry, rather than
            matrices.

    Returns:
        'dense' where it is as fast, or so small that compiling it counts for more; else 'padded'.
    """
    pairs = fibre.n_sources * fibre.n_targets
    gain = (_SLIDING_GAIN if sliding else _MATRIX_GAIN)[fibre.regular is None]
    if pairs <= gain * fibre.capacity or pairs * numbers * columns <= _WORTH_GATHERING:
        return "dense"
    return "padded"


def samples_per_pass(
    bytes_per_sample: int, columns_per_sample: int = 1, platform: str | None = None
) -> int | None:
    """How many samples of a fibre's activations to process at a time.

    Rows are read at random, fast as long as all of them lie in the cache; few samples make short
    rows, which cost more per number.

    Args:
        bytes_per_sample: of the widest fibre.
        columns_per_sample: size of its activation space.
        platform: as for `choose`.

    Returns:
        As many as `_CACHE_BYTES` hold, rounded down to a power of two; at least `_FEWEST_COLUMNS`
        columns. None, all of them, where the cores are many and the caches small.
    """
    if (jax.default_backend() if platform is None else platform) != "cpu":
        return None
    fit = max(_CACHE_BYTES // max(bytes_per_sample, 1), 1)
    return max(1 << (fit.bit_length() - 1), -(-_FEWEST_COLUMNS // columns_per_sample))
