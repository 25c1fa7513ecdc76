"""Which method is fastest, as a table of measured thresholds."""

from typing import Any

import jax

from flowlift.kernels.fibre import Fibre

METHODS = ("csr", "padded", "dense", "complete", "naive")


def choose(fibre: Fibre, samples: int, dtype: Any, platform: str | None = None) -> str:
    """Choose the fastest method known for a fibre.

    Args:
        fibre: the edges; only its static sizes are looked at.
        samples: columns of the activations: samples × size of the activation space.
        dtype: of weights and activations.
        platform: 'cpu', 'gpu' or 'tpu'; JAX's default backend if None.

    Returns:
        A name from `METHODS`.
    """
    del samples, dtype
    if fibre.is_complete:
        return "complete"
    platform = jax.default_backend() if platform is None else platform
    if fibre.n_sources * fibre.n_targets <= 4 * fibre.capacity:
        return "dense"
    return "csr" if platform == "cpu" else "naive"
