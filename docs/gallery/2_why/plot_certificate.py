"""
A certificate of convergence
============================

Along a flow of arc length s, −d√L/ds ≥ (√L − √ε)/κ: where the tangent radius κ stays bounded, the
loss must fall. Measured along a run, κ gives a bound of the loss at every time, which is a
theorem.
"""

import jax
import matplotlib.pyplot as plt

import flowlift
from flowlift import diagnostics, modules, tasks

jax.config.update("jax_enable_x64", True)
task, eps = tasks.periodic({1: 1.0, 3: 0.5}, samples=16), 1e-2
lift = flowlift.sample(
    modules.mlp(inputs=2, depth=2), copies=128, edges=flowlift.FixedInDegree(4), seed=0
)
kappa = diagnostics.observer("tangent_radius", task, eps=eps)
run = flowlift.solve(
    lift, task, 30.0, save=flowlift.LogTimes(8, start=1e-3), observers={"kappa": kappa}
)
found = diagnostics.certificate(run, eps, run.observations["kappa"])

figure, ax = plt.subplots(layout="constrained")
ax.loglog(run.times[1:], run.loss[1:], label="loss")
ax.loglog(run.times[1:], found.bound[1:], "--", label="proved to be at most")
ax.axhline(eps, color="0.5", ls=":", label="ε")
ax.set(xlabel="t", ylabel="loss", title=found.message, ylim=(1e-4, None))
ax.title.set(fontsize=8, wrap=True)
ax.legend()

# %%
# The bound lies above the loss at all times, and below its start.
