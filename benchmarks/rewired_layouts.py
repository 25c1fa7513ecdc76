"""What a gradient costs in the layouts of a fibre: fixed in-degree, slices, free in-degrees.

    python benchmarks/rewired_layouts.py

The gradient of a tanh lift of two hidden layers and in-degree 8 on 256 samples; graphs that change
have the last layout, whose shapes do not depend on degrees. Least CPU time of several calls, the
layouts in turn.
"""

import time

import equinox as eqx
import jax
import numpy as np

import flowlift
from flowlift import lift, modules, tasks
from flowlift.kernels import Fibre

EDGE, SIZES, CALLS = "h1->h2", (64, 512, 4096), 15


def layouts(copies: int) -> dict[str, lift.Lift]:
    """One network in three layouts."""
    module = modules.mlp(10, depth=2)
    fixed = flowlift.sample(module, copies=copies, edges=lift.FixedInDegree(8), seed=0)
    fibre = fixed.fibres[EDGE]
    sliced, _ = Fibre.build(*fibre.edges(), copies, copies, fibre.capacity)
    return {
        "fixed in-degree": fixed,
        "slices": eqx.tree_at(lambda it: it.fibres[EDGE], fixed, sliced),
        "free in-degrees": lift.flexible(fixed, (EDGE,)),
    }


def main() -> None:
    """One line per size."""
    jax.config.update("jax_enable_x64", True)
    x = np.random.default_rng(0).standard_normal((256, 10))
    gradient = eqx.filter_jit(eqx.filter_grad(tasks.supervised(x, np.sin(x[:, 0])).objective))
    for copies in SIZES:
        found = layouts(copies)
        least = dict.fromkeys(found, np.inf)
        for _ in range(CALLS):
            for name, model in found.items():
                before = time.process_time()
                jax.block_until_ready(jax.tree.leaves(gradient(model)))
                least[name] = min(least[name], time.process_time() - before)
        print(copies, ", ".join(f"{name} {1e3 * t:.2f} ms" for name, t in least.items()))


if __name__ == "__main__":
    main()
