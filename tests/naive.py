"""The meaning of a lift, written as loops over copies and edges: slow, obvious, in NumPy."""

import jax.numpy as jnp
import numpy as np

from flowlift.modules import Constant, Input, edge_name


def evaluate(lift, xs):
    """Outputs of a lift for many samples, one sample and one copy at a time."""
    xs = xs if isinstance(xs, dict) else {lift.module.inputs[0].name: xs}
    samples = next(iter(xs.values())).shape[0]
    rows = [_one_sample(lift, {name: x[i] for name, x in xs.items()}) for i in range(samples)]
    outputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _one_sample(lift, x):
    module, y = lift.module, {}
    for name in module.order:
        vertex = module.by_name[name]
        if isinstance(vertex, Constant):
            y[name] = [np.ones(())]
        elif isinstance(vertex, Input):
            y[name] = [x[name]] if vertex.copies is None else list(x[name])
        else:
            y[name] = [_one_copy(lift, name, i, y) for i in range(lift.copies[name])]
    return {
        v.name: y[v.name][0] if v.copies is None else np.stack(y[v.name]) for v in module.outputs
    }


def _one_copy(lift, name, copy, y):
    zs = []
    for edge in lift.module.entering(name):
        shape = edge.map.output_shape(lift.module.shapes[edge.source])
        z = np.zeros(shape)
        for source, target, w in zip(*lift.edges(edge_name(edge)), strict=True):
            if target == copy:
                z = z + np.asarray(edge.map(jnp.asarray(w), jnp.asarray(y[edge.source][source])))
        zs.append(jnp.asarray(z)[None, None])
    return np.asarray(lift.module.by_name[name].map.batched(tuple(zs))[0, 0])
