"""Run by `test_sharding.py` in a process with 4 virtual CPU devices; prints what it found."""

import json
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowlift import BernoulliInDegree, flow, modules, sample, tasks
from flowlift.flow.chunking import bytes_per_sample
from flowlift.flow.problem import make_problem
from flowlift.lift import Gaussian


def gap(got, want):
    return float(jnp.abs(got - want).max() / jnp.abs(want).max())


def main(method: str) -> dict:
    module = modules.mlp(3, depth=2, vector_input=False)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    edges = BernoulliInDegree(3)
    lift = sample(module, copies=20, edges=edges, weights=weights, seed=0, method=method)
    task = tasks.student_teacher(modules.mlp(3, depth=1), samples=23, seed=0)
    spread = tasks.shard(task)
    whole = make_problem(lift, task.objective, "float64")
    memory = 2 * bytes_per_sample(lift, task.objective)
    parts = make_problem(lift, spread.objective, "float64", memory=memory)
    found = {"devices": len(jax.devices()), **compare(parts, whole)}
    # Several devices are the graph's work; on the host other steps lie between save times.
    alone = flow.solve(lift, task, 1.0, rtol=1e-8, engine="graph")
    together = flow.solve(lift, spread, 1.0, rtol=1e-8)
    found["flow"] = gap(together.loss, alone.loss)
    found["steps"] = [together.stats.steps, alone.stats.steps]
    return found


def compare(parts, whole) -> dict:
    theta = whole.start
    v = jnp.asarray(np.random.default_rng(1).standard_normal(theta.size))
    arrays, static = eqx.partition(parts, eqx.is_array)
    run = jax.jit(lambda arrays, theta: eqx.combine(arrays, static).value_and_grad(theta))
    text = run.lower(arrays, theta).compile().as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    loss, gradient = run(arrays, theta)
    hvp = lambda p: jax.jit(lambda x: jax.jvp(lambda x: p.value_and_grad(x)[1], (x,), (v,))[1])
    reverse = lambda p: jax.jit(jax.grad(lambda x: p.value_and_grad(x)[1] @ v))
    return {
        "chunks per device": parts.objective.parts.weights.shape[0] // len(jax.devices()),
        "loss": gap(loss, whole.loss(theta)),
        "gradient": gap(gradient, whole.value_and_grad(theta)[1]),
        "hvp": gap(hvp(parts)(theta), hvp(whole)(theta)),
        "reverse hvp": gap(reverse(parts)(theta), reverse(whole)(theta)),
        "communication": re.findall(rf" ({kinds})(?:-start)?\(", text),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
