"""What this study brings along: a module, a task and an observer, as any user's file would."""

import jax
import jax.numpy as jnp
from moons import half_circles

from flowlift import tasks
from flowlift.modules import (
    Bias,
    Constant,
    Edge,
    Hidden,
    InnerProduct,
    Input,
    Output,
    PerceptronModule,
    Scalar,
    TupleMap,
)


def gate(content, content_bias, gate, gate_bias):
    """One unit: tanh of one sum of inputs, times the sigmoid of another."""
    return jnp.tanh(content + content_bias) * jax.nn.sigmoid(gate + gate_bias)


def gated_product(inputs: int, sharpness: float = 1.0) -> PerceptronModule:
    """One hidden layer of gated units, h = tanh(u x + a) sigmoid(s (v x + b)).

    Args:
        inputs: coordinates of a sample.
        sharpness: s, how steep the gates are.
    """

    def unit(content, content_bias, opening, opening_bias):
        return gate(content, content_bias, sharpness * opening, sharpness * opening_bias)

    vertices = [Input("x", (inputs,)), Constant("1"), Hidden("h", TupleMap(unit)), Output("y")]
    edges = [
        Edge("x", "h", InnerProduct(), "content"),
        Edge("1", "h", Bias(), "content bias"),
        Edge("x", "h", InnerProduct(), "gate"),
        Edge("1", "h", Bias(), "gate bias"),
        Edge("h", "y", Scalar(), "read-out"),
        Edge("1", "y", Bias(), "output bias"),
    ]
    return PerceptronModule(vertices, edges)


def two_moons(samples: int = 200, noise: float = 0.1, seed: int = 0) -> tasks.Task:
    """Two interleaved half circles in the plane, targets -1 and 1; squared loss.

    Args:
        samples: points, half of them on each circle.
        noise: standard deviation of each coordinate.
        seed: of the points.
    """
    inputs, targets = half_circles(samples, noise, seed)
    return tasks.supervised(inputs, targets, name="two moons", provenance={"seed": seed})


def gate_norm(model) -> jax.Array:
    """|v|, the norm of the weights that open and close the gates."""
    return jnp.linalg.norm(model.weights["gate"])
