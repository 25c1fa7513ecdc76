"""What compiling a lift's gradient costs, beside what it gains: by method, by depth, and by stride.

python benchmarks/compile_time.py --copies 64 --samples 256
python benchmarks/compile_time.py --depths 8 16 64 --copies 16 --samples 64
python benchmarks/compile_time.py --kernels 4 4 3 2 --copies 120 --samples 64
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import tyro

from flowlift import modules, tasks
from flowlift.flow.problem import make_problem
from flowlift.lift import BernoulliInDegree, Complete, FixedInDegree, GaussianFanIn, repeats, sample


def timed(run, *arguments) -> dict[str, object]:
    """Processor seconds of one compilation, loops of the program, milliseconds of one call."""
    clock = time.process_time()
    compiled = jax.jit(run).lower(*arguments).compile()
    seconds, runs = time.process_time() - clock, []
    for _ in range(50):
        clock = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        runs.append(1e3 * (time.perf_counter() - clock))
    loops = compiled.as_text().count(" fusion(")
    return {
        "loops": loops,
        "compile [s]": round(seconds, 2),
        "median [ms]": statistics.median(runs),
        "least [ms]": min(runs),
    }


def by_method(copies: int, in_degree: int, samples: int, law, method: str) -> dict[str, object]:
    """The gradient of an mlp on digits."""
    module, task = modules.mlp(64, 10, depth=3), tasks.digits(samples)
    weights = {"x->h1": GaussianFanIn()}
    lift = sample(
        module, copies=copies, edges=law(in_degree), weights=weights, seed=0, method=method
    )
    theta, rest = eqx.partition(lift, eqx.is_inexact_array)
    gradient = jax.grad(lambda theta: task.objective(eqx.combine(theta, rest)))
    return {"law": law.__name__, "method": method, **timed(gradient, theta)}


def by_depth(depth: int, copies: int, in_degree: int, samples: int, looped: bool) -> list[dict]:
    """Gradient and Hessian-vector product of a deep mlp, equal layers in a loop or one by one."""
    least = repeats._LEAST_BLOCKS
    repeats._LEAST_BLOCKS = 1 if looped else depth
    jax.clear_caches()
    lift = sample(
        modules.mlp(2, depth=depth), copies=copies, edges=FixedInDegree(in_degree), seed=0
    )
    task = tasks.periodic({1: 1.0, 3: 0.5}, samples=samples)
    problem = make_problem(lift, task.objective, "float64")
    arrays, static = eqx.partition(problem, eqx.is_array)
    theta = problem.start
    gradient = lambda arrays, x: eqx.combine(arrays, static).value_and_grad(x)[1]
    product = lambda a, x, v: jax.jvp(lambda x: gradient(a, x), (x,), (v,))[1]
    case = {"depth": depth, "looped": looped}
    rows = [
        {**case, "what": "gradient", **timed(gradient, arrays, theta)},
        {**case, "what": "product", **timed(product, arrays, theta, jnp.cos(theta))},
    ]
    repeats._LEAST_BLOCKS = least
    return rows


def by_kernel(kernel: int, stride: int, copies: int, law, samples: int) -> list[dict]:
    """Gradient and Hessian-vector product of two convolutions of maps of 28 x 28."""
    module = modules.cnn2d(28, 28, depth=2, kernel=kernel, stride=stride)
    lift = sample(module, copies=copies, edges=law, seed=0)
    x = np.random.default_rng(0).standard_normal((samples, 1, 28, 28))
    problem = make_problem(lift, tasks.supervised(x, x[:, 0, 0, 0]).objective, "float64")
    theta, gradient = problem.start, lambda x: problem.value_and_grad(x)[1]
    product = lambda x, v: jax.jvp(gradient, (x,), (v,))[1]
    case = {"kernel": kernel, "stride": stride, "law": type(law).__name__}
    return [
        {**case, "what": "gradient", **timed(gradient, theta)},
        {**case, "what": "product", **timed(product, theta, jnp.cos(theta))},
    ]


def main(
    copies: int = 64,
    in_degree: int = 4,
    samples: int = 256,
    depths: tuple[int, ...] = (),
    kernels: tuple[tuple[int, int], ...] = (),
) -> None:
    """Print the table.

    Args:
        copies: copies of each hidden vertex.
        in_degree: (mean) in-degree.
        samples: of the data.
        depths: compare equal layers in a loop with layers one by one at these depths instead.
        kernels: sides and strides of kernels to convolve with instead, in sparse and dense lifts.
    """
    if kernels:
        laws = (BernoulliInDegree(in_degree), Complete())
        rows = [
            row
            for side, stride in kernels
            for law in laws
            for row in by_kernel(side, stride, copies, law, samples)
        ]
    elif depths:
        each = [(depth, looped) for depth in depths for looped in (True, False)]
        rows = [r for d, looped in each for r in by_depth(d, copies, in_degree, samples, looped)]
    else:
        laws, methods = (BernoulliInDegree, FixedInDegree), ("csr", "padded")
        rows = [by_method(copies, in_degree, samples, law, m) for law in laws for m in methods]
    print(pandas.DataFrame(rows).to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    tyro.cli(main)
