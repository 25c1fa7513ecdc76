"""
Saddle to saddle
================

From weights of size α the loss falls in stairs: a product of two weights that learns the number b
leaves its saddle at t = ln(1/α)/b (Pesme and Flammarion, 2023). In units of ln(1/α) all flows
jump at ½, 1 and 2.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import flowlift

jax.config.update("jax_enable_x64", True)
target = np.array([2.0, 1.0, 0.5])


def loss(model):
    return jnp.sum((model["u"] * model["v"] - target) ** 2) / 2


figure, ax = plt.subplots(layout="constrained")
for alpha in (1e-2, 1e-4, 1e-8, 1e-16):
    start, unit = {"u": jnp.full(3, 2**0.5 * alpha), "v": jnp.zeros(3)}, np.log(1 / alpha)
    # An absolute tolerance that is not small against alpha would decide the times.
    run = flowlift.solve(
        start, loss, 2.6 * unit, rtol=1e-6, atol=1e-6 * alpha, save=np.linspace(0, 2.6, 400) * unit
    )
    ax.plot(run.times / unit, run.loss, label=f"α = {alpha:g}")
for jump in 1 / target:
    ax.axvline(jump, color="0.6", ls=":")
ax.set(xlabel="t / ln(1/α)", ylabel="loss")
ax.legend()

# %%
# The smaller α, the steeper the stairs, and the closer to the predicted times (dotted).
