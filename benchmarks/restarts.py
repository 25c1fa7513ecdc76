"""Products until `least_curvature` is sure, against the vectors kept: counts, the same anywhere.

    python benchmarks/restarts.py
    python benchmarks/restarts.py --vectors 60 100 --parts 0.2 0.5

The spectrum is like that of a wide network with ten outputs: outliers above in clusters of ten, a
bulk around 0 and a least eigenvalue that stands apart. Each line says how many products
bring the bound to 1e-6 of the largest eigenvalue, as if there were a million parameters.
"""

import dataclasses
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import tyro

from flowlift.solvers.exclusion import Exclusion, component_quantile
from flowlift.solvers.host import restarted

# As `least_curvature`: what is looked for, and how often one looks.
NEAR, FAILURE, PARAMETERS, BLOCK = 1e-6, 1e-6, 1_000_000, 16


@dataclasses.dataclass(frozen=True)
class Options:
    """What runs.

    Attributes:
        vectors: how many there is room for.
        parts: what stays at the lower and at the upper end, in pairs.
        most: products at most.
        outliers: clusters of ten above the bulk.
    """

    vectors: tuple[int, ...] = (30, 60, 100, 150, 200, 300)
    parts: tuple[float, ...] = (0.4, 0.1, 0.2, 0.5)
    most: int = 600
    outliers: int = 25


def spectrum(clusters: int) -> np.ndarray:
    """Outliers from 10 to 4,000 split by a few millionths, a bulk in [-1.9, 1.9], five below."""
    rng = np.random.default_rng(0)
    outliers = np.geomspace(10, 4000, clusters)[:, None] * (1 + 3e-6 * rng.random((clusters, 10)))
    below = [-2.4, -2.15, -2.08, -2.06, -2.0]
    return np.concatenate([below, np.linspace(-1.9, 1.9, 2000), outliers.ravel()])


def products(values: np.ndarray, start: np.ndarray, vectors: int, most: int) -> str:
    """How many, or how far off what was spent leaves the bound."""
    component = component_quantile(PARAMETERS, FAILURE)
    process, off = restarted.Restarted(start, vectors), np.inf
    while process.products < most:
        process.extend(lambda v: values * v)
        if process.products % BLOCK:
            continue
        known = Exclusion([*process.cycles, process.cycle])
        off = (known.values[0] - known.least_bound(component)) / known.values[-1]
        if off <= NEAR:
            return str(process.products)
    return f"more than {most} ({off:.0e} off)"


def main(options: Options) -> None:
    values = spectrum(options.outliers)
    start = np.random.default_rng(1).standard_normal(values.size)
    pairs = list(zip(options.parts[::2], options.parts[1::2], strict=True))
    for vectors in options.vectors:
        told = []
        for pair in pairs:
            # The choice by the number of vectors is what is compared here.
            restarted._OF_MANY = restarted._OF_FEW = pair
            told.append(f"{pair}: {products(values, start, vectors, options.most)}")
        print(f"{vectors} vectors, kept {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
