"""One of two processes of `test_distributed.py`, of one device each; prints what it found."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from flowlift import flow, tasks
from flowlift.flow.problem import make_problem


def network(model, inputs):
    return jnp.tanh(inputs @ model["w"]) @ model["a"]


def gap(got, want) -> float:
    return float(np.abs(np.asarray(got) - np.asarray(want)).max() / np.abs(np.asarray(want)).max())


def main(rank: int, address: str) -> dict:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=rank)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 3)), rng.standard_normal((23, 2))
    model = {"w": rng.standard_normal((3, 5)), "a": rng.standard_normal((5, 2))}
    model = jax.tree.map(jnp.asarray, model)
    task = tasks.supervised(x, y, apply=network, samplewise=True)
    spread = tasks.shard(task)
    parts, whole = (make_problem(model, t.objective, "float64") for t in (spread, task))
    theta = whole.start
    loss, gradient = parts.value_and_grad(theta)
    there, other = whole.value_and_grad(theta)
    weights = parts.objective.parts.weights
    found = {
        "devices": [len(jax.devices()), len(jax.local_devices())],
        "samples here": sum(int((s.data > 0).sum()) for s in weights.addressable_shards),
        "loss": gap(loss, there),
        "gradient": gap(gradient, other),
    }
    settings = {"solver": "tsit5", "rtol": 1e-8, "save": [0.5, 1.0]}
    together = flow.solve(model, spread, 1.0, **settings)
    alone = flow.solve(model, task, 1.0, engine="graph", **settings)
    return found | {
        "flow": gap(together.loss, alone.loss),
        "steps": [together.stats.steps, alone.stats.steps],
        "losses": together.loss.tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2])))
