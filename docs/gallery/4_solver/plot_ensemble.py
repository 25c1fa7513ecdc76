"""
An ensemble in one program
==========================

Ten lifts of one size, which differ by their seed, share one compiled program. `batch` runs
several side by side in it, each with its own steps and its own end; a member's numbers do not
depend on its neighbours.
"""

import jax

import flowlift
from flowlift import flow, modules, plot, tasks

jax.config.update("jax_enable_x64", True)
task = tasks.periodic({1: 1.0, 2: 0.5}, samples=16)
module, edges, runs = modules.mlp(inputs=2, depth=1), flowlift.Complete(), []
for copies in (8, 32):
    lifts = (flowlift.sample(module, copies=copies, edges=edges, seed=s) for s in range(10))
    flows = flow.solve_each(lifts, task, 300.0, solver="tsit5", rtol=1e-3, batch=5)
    runs += [(copies, seed, solution) for seed, solution in enumerate(flows)]
plot.loss_vs_time(flowlift.gather(runs))

# %%
# Medians of ten flows and bands of the middle 80%.
