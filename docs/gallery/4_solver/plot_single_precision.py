"""
float32 against float64
=======================

The same flow in both precisions. Single precision serves until the residuals are its rounding,
about 1e-7, and the loss, their mean square, about 1e-13: what it does from there on is noise.
"""

import jax
import matplotlib.pyplot as plt

import flowlift
from flowlift import modules, tasks

jax.config.update("jax_enable_x64", True)
module = modules.mlp(inputs=2, depth=1)

figure, ax = plt.subplots(layout="constrained")
for precision, style in (("float64", "-"), ("float32", "--")):
    task = tasks.periodic({1: 1.0, 2: 0.5}, samples=16, precision=precision)
    lift = flowlift.sample(
        module, copies=64, edges=flowlift.Complete(), seed=0, precision=precision
    )
    run = flowlift.solve(lift, task, 1e5, rtol=1e-3, precision=precision, max_gradients=20_000)
    label = f"{precision}: {run.result.value}, {run.stats.cost} gradients"
    ax.loglog(run.times[1:], run.loss[1:], style, label=label)
ax.set(xlabel="t", ylabel="loss")
ax.legend()

# %%
# Until the curves part they agree to single precision.
