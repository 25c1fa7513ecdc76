"""
The tangent radius falls with the size
======================================

κ(ε) is how far the parameters must move, to first order, until the loss is ε. In larger lifts
there are more directions to share the work, and κ falls like n^(−1/2): this is why large lifts
need not go far.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import flowlift
from flowlift import diagnostics, modules, tasks

jax.config.update("jax_enable_x64", True)
task = tasks.periodic({1: 1.0, 3: 0.5}, samples=16)
module, edges = modules.mlp(inputs=2, depth=2), flowlift.FixedInDegree(4)
sizes, seeds = [32, 64, 128, 256, 512, 1024], range(5)


def radius(copies, seed):
    lift = flowlift.sample(module, copies=copies, edges=edges, seed=seed)
    return float(diagnostics.tangent_radius(lift, task, eps=0.01).kappa)


kappa = np.array([[radius(copies, seed) for seed in seeds] for copies in sizes])

figure, ax = plt.subplots(layout="constrained")
ax.loglog(sizes, kappa, ".", color="C0")
ax.loglog(sizes, np.median(kappa, axis=1), label="median of five lifts")
guide = np.median(kappa[-1]) * (np.array(sizes) / sizes[-1]) ** -0.5
ax.loglog(sizes, guide, "k--", label="slope −1/2")
ax.set(xlabel="copies n", ylabel="κ(0.01)")
ax.legend()

# %%
# Each point is a lift that was drawn and never trained.
