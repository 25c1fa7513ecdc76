"""
Grokking
========

Quadratic units learn a + b mod 13 from 60% of all pairs (Gromov, 2023), with a little weight
decay. The loss on the pairs held out rises while the training loss falls, and comes down a
hundred times later.
"""

import equinox as eqx
import jax
import numpy as np

import flowlift
from flowlift import flow, plot, tasks

jax.config.update("jax_enable_x64", True)


class Quadratic(eqx.Module):
    into: jax.Array
    out: jax.Array

    def __call__(self, x):
        return self.out @ (self.into @ x) ** 2


p, width, rng = 13, 60, np.random.default_rng(0)
into, out = rng.normal(size=(width, 2 * p)), rng.normal(size=(p, width))
network = Quadratic(jax.numpy.asarray(into * 0.4), jax.numpy.asarray(out / width**0.5))
task = tasks.with_decay(tasks.modular_addition(p, fraction=0.6, held_out=0.4, seed=0), 1e-3)
run = flowlift.solve(network, task, 1e5, rtol=1e-3, save=flowlift.LogTimes(10, start=0.1))
plot.loss_vs_time(flow.dataset(run))

# %%
# Solid: the training loss with its decay, which cannot vanish. Dashed: the loss on held-out
# pairs.
