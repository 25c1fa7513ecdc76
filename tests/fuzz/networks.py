"""Random base graphs, lifts, equinox networks and tasks."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import flowlift
from flowlift import lift as lifts
from flowlift import modules, tasks
from flowlift.modules import Edge, Hidden, Input, Output, PerceptronModule

SMOOTH = ["tanh", "softplus", "erf", "erf_root2", "sine", "gelu", "identity"]
SHAPES = [(), (), (2,), (3,), (2, 3)]


def product(*zs):
    return jnp.tanh(zs[0]) * (1 + sum(zs[1:], jnp.zeros_like(zs[0])) / 3)


def bounded(*zs):
    return sum((jnp.sin((i + 1) * z) for i, z in enumerate(zs)), jnp.zeros_like(zs[0]))


def squared(z):
    return z * jnp.exp(-(z**2))


def vertex_map(rng, entering: int, shape):
    """A map of a tuple of so many pre-activations of one shape."""
    function = str(rng.choice(SMOOTH)) if rng.random() < 0.8 else squared
    maps = [modules.Pointwise(function), modules.Pointwise(function)]
    maps += [modules.TupleMap(product), modules.TupleMap(bounded)]
    if entering > 1:
        maps += [modules.Residual(function), modules.Gated(int(rng.integers(1, entering)))]
    if shape:
        maps += [modules.Normalise(None, function, epsilon=0.1)]
    return maps[rng.integers(0, len(maps))]


def edge_map(rng, source, target):
    """A map between activation spaces, None if there is none that we know of."""
    maps = []
    if source == target:
        maps += [modules.Scalar(), modules.Identity()]
    if source and source[:-1] == target:
        maps += [modules.InnerProduct()] * 2
    if len(source) == 2 and target == ():
        maps += [modules.InnerProduct(2)]
    if source and target and source[:-1] == target[:-1]:
        maps += [modules.Matrix(target[-1]), modules.LowRank(target[-1], 1)]
    if source and source == target:
        maps += [modules.Diagonal()]
    if source and source[1:] == target:
        maps += [modules.At(int(rng.integers(0, source[0])), modules.Scalar())]
    return maps[rng.integers(0, len(maps))] if maps else None


def draw_module(rng) -> PerceptronModule:
    """A random directed acyclic multigraph with random maps."""
    data = [Input("x", [(3,), (2, 3), (2,)][rng.integers(0, 3)]), Input("x", (), copies=3)]
    vertices: list = [data[rng.integers(0, 2)], modules.Constant("1")]
    if rng.random() < 0.25:
        vertices.append(Input("z", (2,), copies=int(rng.integers(1, 3))))
    spaces = {v.name: v.shape for v in vertices if isinstance(v, Input)}
    edges: list[Edge] = []
    for i in range(int(rng.integers(1, 5))):
        name, shape = f"h{i}", SHAPES[rng.integers(0, len(SHAPES))]
        entering = _entering(rng, spaces, name, shape, int(rng.integers(1, 4)))
        if entering:
            edges += entering
            vertices.append(Hidden(name, vertex_map(rng, len(entering), shape)))
            spaces[name] = shape
    hidden = {name: shape for name, shape in spaces.items() if name.startswith("h")}
    if not hidden:
        return draw_module(rng)
    read = _entering(rng, hidden, "y", (), int(rng.integers(1, 3)), identity=False)
    if not read:
        return draw_module(rng)
    copies = [None, 1, 2, 3][rng.integers(0, 4)]
    return PerceptronModule([*vertices, Output("y", copies=copies)], [*edges, *read])


def _entering(rng, spaces, name, shape, count, identity=True) -> list[Edge]:
    """Edges into a vertex, parallel ones included; fewer where maps are missing."""
    edges = []
    for _ in range(count):
        source = str(rng.choice(list(spaces)))
        chosen = edge_map(rng, spaces[source], shape)
        if isinstance(chosen, modules.Identity) and not (identity and source.startswith("h")):
            chosen = modules.Scalar()
        if chosen is not None:
            edges.append(Edge(source, name, chosen))
    if edges and rng.random() < 0.4:
        edges.append(Edge("1", name, modules.Bias(shape)))
    return edges


def edge_law(rng, sources: int, targets: int):
    laws = [
        lifts.BernoulliInDegree(float(rng.uniform(0.3, 4))),
        lifts.BernoulliOutDegree(float(rng.uniform(0.3, 4))),
        lifts.FixedInDegree(int(rng.integers(1, sources + 1))),
        lifts.Complete(),
    ]
    laws += [lifts.OneToOne()] if sources == targets else []
    return laws[rng.integers(0, len(laws))]


def weight_law(rng):
    scale = float(rng.uniform(0.3, 1.2))
    laws = [lifts.Gaussian, lifts.GaussianFanIn, lifts.GaussianWidth, lifts.LecunNormal]
    return [*laws, lifts.Uniform][rng.integers(0, 5)](scale)


def draw_lift(shapes, rng) -> flowlift.Lift:
    """A random lift of a random module; the graph and weights are the case's own."""
    module = draw_module(shapes)
    one = int(shapes.integers(1, 7))
    equal = any(isinstance(e.map, modules.Identity) for e in module.edges)
    copies = {v.name: one if equal else int(shapes.integers(1, 7)) for v in module.hidden}
    sizes = lifts.resolve_copies(module, copies)
    edges = {
        name: edge_law(shapes, sizes[e.source], sizes[e.target])
        for name, e in module.edge_by_name.items()
        if not isinstance(e.map, modules.Identity)
    }
    weights = {"*": weight_law(shapes)}
    read = [name for name, e in module.edge_by_name.items() if e.target == "y"]
    weights |= {name: weight_law(shapes) for name in read if shapes.random() < 0.8}
    seed = int(rng.integers(0, 2**62))
    method = str(shapes.choice(["auto", "auto", "csr", "padded", "dense", "naive"]))
    laws = edges | {"*": lifts.Complete()}
    return flowlift.sample(
        module, copies=copies, edges=laws, weights=weights, seed=seed, method=method
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """Samples of a task, and what the loss is in NumPy.

    Attributes:
        inputs: samples.
        targets: what they are compared with.
        loss: as `tasks.supervised` takes it.
    """

    inputs: object
    targets: np.ndarray
    loss: object

    def task(self, order=None):
        order = np.arange(len(self.targets)) if order is None else order
        inputs = jax.tree.map(lambda leaf: leaf[order], self.inputs)
        return tasks.supervised(inputs, self.targets[order], self.loss)

    def by_hand(self, outputs: np.ndarray) -> float:
        """The mean over samples, in NumPy."""
        y = np.asarray(outputs, float)
        y, rows = y.reshape(len(y), -1), np.arange(len(y))
        if self.loss == "cross-entropy":
            largest = y.max(axis=1)
            total = np.log(np.exp(y - largest[:, None]).sum(axis=1)) + largest
            return float(np.mean(total - y[rows, self.targets]))
        gap = y - self.targets.reshape(len(y), -1)
        if self.loss == "squared":
            return float(np.mean((gap**2).sum(axis=1)))
        return float(np.mean(np.sqrt(1 + gap**2).sum(axis=1)) - self.loss.shift)


class Huber(eqx.Module):
    """sum sqrt(1 + (y - t)^2) - shift: a loss of one sample, with data, that may be negative."""

    shift: np.ndarray

    def __call__(self, output, target):
        return jnp.sum(jnp.sqrt(1 + (output - target) ** 2)) - self.shift


def draw_data(shapes, rng, inputs: dict, outputs: tuple[int, ...]) -> Data:
    """Samples for inputs and outputs of these shapes."""
    samples = int(shapes.integers(2, 9))
    xs = {k: rng.standard_normal((samples, *shape)) for k, shape in inputs.items()}
    kind = shapes.integers(0, 3)
    if kind == 0 and outputs and outputs[0] > 1:
        return Data(_bare(xs), rng.integers(0, outputs[0], samples), "cross-entropy")
    targets = rng.standard_normal((samples, *outputs))
    loss = "squared" if kind < 2 else Huber(rng.choice([0.0, 1.0, 5.0]))
    return Data(_bare(xs), targets, loss)


def _bare(xs: dict):
    return next(iter(xs.values())) if len(xs) == 1 else xs


def shapes_of(module: PerceptronModule):
    """Shapes of one sample of every input, and of the output."""
    inputs = {v.name: (() if v.copies is None else (v.copies,)) + v.shape for v in module.inputs}
    out = module.outputs[0].copies
    return inputs, () if out is None else (out,)
