"""
What the flow conserves, and steps do not
=========================================

The squared norm of a unit's outgoing weights less that of its incoming ones is constant along the
flow of a ReLU network (Du, Hu and Lee, 2018). Steps of gradient descent add η²-terms to it, and
it drifts.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import flowlift
from flowlift import diagnostics, tasks

jax.config.update("jax_enable_x64", True)
task = tasks.diabetes(50)
network = eqx.nn.MLP(10, "scalar", 16, 1, jax.nn.relu, key=jax.random.key(0))
balance = lambda model: diagnostics.imbalance(model, task).flat[0]

figure, ax = plt.subplots(layout="constrained")
for rtol in (1e-3, 1e-4):
    run = flowlift.solve(network, task, 10.0, rtol=rtol, atol=rtol / 100, solver="tsit5",
                         save=np.linspace(0, 10, 51), observers={"I": balance})  # fmt: skip
    drift = np.abs(run.observations["I"] - run.observations["I"][0]).max(axis=1)
    ax.semilogy(run.times[1:], drift[1:], label=f"flow, rtol = {rtol:g}")
slope = eqx.filter_jit(eqx.filter_grad(task.objective))
for eta in (0.1, 0.01):
    model, start, drift = network, balance(network), []
    for step in range(round(10 / eta)):
        down = jax.tree.map(lambda g, eta=eta: -eta * g, slope(model))
        model = eqx.apply_updates(model, down)
        if step % round(0.2 / eta) == 0:
            drift.append(float(jnp.abs(balance(model) - start).max()))
    ax.semilogy(0.2 * np.arange(len(drift)) + eta, drift, "--", label=f"steps, η = {eta:g}")
ax.set(xlabel="t = η × steps", ylabel="largest change of any unit's imbalance")
ax.legend()

# %%
# The drift of steps is proportional to η; that of the flow to the tolerance.
