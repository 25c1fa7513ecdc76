"""
The edge of stability
=====================

Gradient descent with step η cannot stand a sharpness above 2/η: it oscillates, and is pushed to
where the sharpness stays there. The *central flow* (Cohen et al., 2024) is the equation of its
average; the gradient flow knows nothing of it.
"""

import jax
import jax.numpy as jnp

from flowlift import compare, plot
from flowlift.flow import CentralFlow, GradientFlow

jax.config.update("jax_enable_x64", True)


def loss(w):
    return (jnp.prod(w) - 1) ** 2 / 2


start, eta = jnp.array([0.25, 1.4, 1.6, 0.5]), 0.36
flows = {"gradient flow": GradientFlow(), "central flow": CentralFlow(eta, eigenvalues=1)}
steps = compare.compare_with_steps(
    start, loss, compare.gradient_descent(eta), 60, flows=flows, window=6
)
plot.steps_and_flows(steps)

# %%
# Grey: the loss at each step; black: its mean over six. The central flow predicts that mean.
