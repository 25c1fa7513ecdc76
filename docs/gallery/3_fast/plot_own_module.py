"""
A module of your own
====================

A vertex map takes the *tuple* of what enters, so that a unit may multiply: tanh(content) ·
sigmoid(gate). Lifts of it and of plain tanh units, with as many copies, learn a product.
"""

import jax
import jax.numpy as jnp
import numpy as np

import flowlift
from flowlift import modules, plot, tasks
from flowlift.modules import Edge, Hidden, InnerProduct, Input, Output, Scalar, TupleMap

jax.config.update("jax_enable_x64", True)


def gate(content, opening):
    return jnp.tanh(content) * jax.nn.sigmoid(opening)


gated = modules.PerceptronModule(
    [Input("x", (2,)), Hidden("h", TupleMap(gate)), Output("y")],
    [
        Edge("x", "h", InnerProduct(), "content"),
        Edge("x", "h", InnerProduct(), "gate"),
        Edge("h", "y", Scalar()),
    ],
)
x = np.random.default_rng(0).normal(size=(40, 2))
task = tasks.supervised(x, x[:, 0] * x[:, 1], name="a product")
flows = []
for copies in (8, 32, 128):
    lift = flowlift.sample(gated, copies=copies, edges=flowlift.Complete(), seed=0)
    flows.append((copies, 0, flowlift.solve(lift, task, 1e3, rtol=1e-3)))
plot.loss_vs_time(flowlift.gather(flows))

# %%
# `flowlift.gather` makes of (size, seed, solution) what figures and answers are made of.
