"""
Lazy against rich
=================

Outputs s (F − F at the start) with a large s are fitted before the weights have moved: training
is *lazy* (Chizat, Oyallon and Bach, 2019). With a small s the weights must travel, and features
form.
"""

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np

import flowlift
from flowlift import tasks

jax.config.update("jax_enable_x64", True)
x = np.linspace(-np.pi, np.pi, 16)
task = tasks.supervised(x[:, None], np.sin(2 * x))
network = eqx.nn.MLP(1, "scalar", 64, 1, jax.numpy.tanh, key=jax.random.key(0))
leaves = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
size = np.sqrt(sum(float((leaf**2).sum()) for leaf in leaves))

scales, moved = [0.1, 0.3, 1, 3, 10, 30, 100], []
for scale in scales:
    scaled = tasks.with_output(task, scale=scale, start=network)
    run = flowlift.solve(network, scaled, 1e6, rtol=1e-4, stops=[flowlift.LossBelow(1e-2)])
    moved.append(run.distance[-1] / size)

figure, ax = plt.subplots(layout="constrained")
ax.loglog(scales, moved, "o-")
ax.loglog(scales, moved[-1] * scales[-1] / np.array(scales), "k--", label="slope −1: lazy")
ax.set(xlabel="scale s of the output", ylabel="|θ(t) − θ(0)| / |θ(0)| when L = 0.01")
ax.legend()

# %%
# To the right the movement is what the tangent space needs, 1/s; to the left it is more than
# that.
