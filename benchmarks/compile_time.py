"""What compiling a lift's gradient costs, by method of the fibre sum, beside what it gains.

python benchmarks/compile_time.py --copies 64 --samples 256
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import statistics
import time

import equinox as eqx
import jax
import pandas
import tyro

from flowlift import modules, tasks
from flowlift.lift import BernoulliInDegree, FixedInDegree, GaussianFanIn, sample


def measure(copies: int, in_degree: int, samples: int, law, method: str) -> dict[str, object]:
    """Processor seconds of one compilation and milliseconds of one gradient."""
    module, task = modules.mlp(64, 10, depth=3), tasks.digits(samples)
    weights = {"x->h1": GaussianFanIn()}
    lift = sample(
        module, copies=copies, edges=law(in_degree), weights=weights, seed=0, method=method
    )
    theta, rest = eqx.partition(lift, eqx.is_inexact_array)
    gradient = jax.jit(jax.grad(lambda theta: task.objective(eqx.combine(theta, rest))))
    clock = time.process_time()
    compiled = gradient.lower(theta).compile()
    seconds, runs = time.process_time() - clock, []
    for _ in range(50):
        clock = time.perf_counter()
        jax.block_until_ready(compiled(theta))
        runs.append(time.perf_counter() - clock)
    times = {"compile [s]": round(seconds, 2), "gradient [ms]": 1e3 * statistics.median(runs)}
    return {"law": law.__name__, "method": method, **times}


def main(copies: int = 64, in_degree: int = 4, samples: int = 256) -> None:
    """Print the table.

    Args:
        copies: copies of each of three hidden vertices.
        in_degree: (mean) in-degree.
        samples: digits.
    """
    rows = [
        measure(copies, in_degree, samples, law, method)
        for law in (BernoulliInDegree, FixedInDegree)
        for method in ("csr", "padded")
    ]
    print(pandas.DataFrame(rows).to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    tyro.cli(main)
