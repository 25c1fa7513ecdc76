"""A user's folder: a study file, the file that it names, and a file that this imports."""

from pathlib import Path

PARTS = """
import jax.numpy as jnp


def soft(z):
    return jnp.tanh(z)
"""
GATED = '''
"""Kinds of my own."""

import jax
import jax.numpy as jnp
import numpy as np
from parts import soft

from flowlift.lift import Complete, Gaussian
from flowlift.modules import Bias, Constant, Edge, Hidden, InnerProduct, Input, Output
from flowlift.modules import PerceptronModule, Scalar, TupleMap
from flowlift.tasks import supervised


def gate(content, bias, strength):
    return jnp.exp(-strength * strength) * soft(content + bias)


def gated_product(inputs: int, slope: float = 1.0) -> PerceptronModule:
    """Hidden units exp(-(v x)^2) tanh(w x + b).

    Args:
        inputs: coordinates of a sample.
        slope: without effect.
    """
    vertices = [Input("x", (inputs,)), Constant("1"), Hidden("h", TupleMap(gate)), Output("y")]
    edges = [Edge("x", "h", InnerProduct(), "content"), Edge("1", "h", Bias(), "bias")]
    edges += [Edge("x", "h", InnerProduct(), "gate"), Edge("h", "y", Scalar(), "out")]
    return PerceptronModule(vertices, edges)


def two_moons(samples: int = 8, noise: float = 0.1, seed: int = 0):
    """Two half circles, labelled +1 and -1."""
    sign = np.where(np.arange(samples) % 2, 1.0, -1.0)
    angle = np.linspace(0, np.pi, samples)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * sign[:, None]
    x += noise * np.random.default_rng(seed).normal(size=x.shape)
    return supervised(x, sign, name="two moons")


def out_norm(model, power: int = 1):
    return jnp.linalg.norm(model.weights["out"]) ** power


def complete():
    return Complete()


def wide(scale: float):
    return Gaussian(scale)


def controls(size: int, seed: int, *, outputs: int = 1):
    """A matrix and a vector, a plain pytree."""
    if size > 50:
        raise ValueError("size must be at most 50")
    keys = jax.random.split(jax.random.key(seed))
    return {
        "inner": jax.random.normal(keys[0], (size, 2)),
        "outer": jax.random.normal(keys[1], (outputs, size)) / size,
    }


def applied(model, xs):
    return (jnp.tanh(xs @ model["inner"].T) @ model["outer"].T)[:, 0]


def moons_for_controls(samples: int = 8):
    objective = two_moons(samples).objective
    return supervised(objective.inputs, objective.targets, apply=applied)
'''
STUDY = """
name = "gated"
seeds = 2

[module]
kind = "gated.py:gated_product"
inputs = 2

[lift]
sizes = [2, 3]
edges = { kind = "complete" }

[task]
kind = "gated.py:two_moons"
samples = 8

[flow]
horizon = 1.0
solver = "tsit5"

[observe]
quantities = { out = { kind = "gated.py:out_norm" } }

[question]
losses = [0.9]
"""
MODEL_STUDY = """
name = "controls"
seeds = 2
sizes = [2, 4]

[model]
kind = "gated.py:controls"

[task]
kind = "gated.py:moons_for_controls"

[flow]
horizon = 1.0
solver = "tsit5"

[question]
losses = [0.9]
"""


def write(folder: Path, **files: str) -> Path:
    """Write the files, or others in place of them; the study file."""
    texts = {"gated": GATED, "parts": PARTS, "study": STUDY} | files
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        ending = ".toml" if name == "study" else ".py"
        (folder / f"{name}{ending}").write_text(text)
    return folder / "study.toml"
