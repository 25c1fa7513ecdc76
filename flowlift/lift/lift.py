"""The lift of a perceptron module: a sparse network as an equinox pytree (theory, section 2)."""

import hashlib
import math
from collections.abc import Hashable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from ..kernels import Fibre, samples_per_pass
from ..modules import Constant, Edge, Hidden, Input, PerceptronModule, Vertex, edge_name
from ..modules.drawn import base_graph_svg
from ..precision import check_real
from ..protocols import AbstractPadded, AbstractSamplewise, AbstractSmoothness
from ..showing import Card, shows_itself
from ..words import near, words
from .fibre_sums import edge_sum
from .looped import Block, activation, kinds, run
from .repeats import Repeat, plan

ArrayLike = Array | np.ndarray


@shows_itself
class Lift(eqx.Module, AbstractSamplewise, AbstractPadded, AbstractSmoothness):
    """A lifted network: copies of vertices, sparse edges over base edges, one weight per edge.

    Theory, section 2 [paper: graph and homomorphism; read: the sums]. For a copy v' over v and
    each base edge a entering v,

        z_{v',a} = sum over lifted edges e' = (u', v') over a of M_a(w_{e'}, y_{u'})  (empty sum 0)
        y_{v'}   = sigma_v((z_{v',a})_a).

    The inexact leaves are exactly the trainable weights; the graph is integer data, so that two
    lifts of equal shapes share one compilation. Over a base edge whose law gives a random number
    of edges the arrays are padded; padding carries weight 0, never contributes and has gradient 0.

    Build one with `flowlift.sample` or `from_edges`, which verify the homomorphism.

    Attributes:
        weights: for each base edge, the weights of its lifted edges, (edges, *W_e), sorted by
            (target, source), padding last.
        fibres: for each base edge, the lifted edges over it.
        module: the base module.
        sizes: (vertex, copies) pairs.
        seed: the seed drawn from; -1 for a lift built by hand.
        digest: SHA-256 of the graph, as bytes.
        method: how sums over fibres of scalar edges are computed, "auto" or a name known to
            `flowlift.kernels`; complete fibres are always one matrix product.
    """

    weights: dict[str, Float[Array, "..."]]
    fibres: dict[str, Fibre]
    seed: Int[np.ndarray, ""] | Int[Array, ""]
    digest: UInt8[np.ndarray, "32"] | UInt8[Array, "32"]
    module: PerceptronModule = eqx.field(static=True)
    sizes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    method: str = eqx.field(static=True, default="auto")

    def _card_(self) -> Card:
        title = f"Lift: {self.n_edges} edges, {self.n_parameters} parameters"
        rows: list[tuple[str, Any]] = [("copies", self.copies), ("seed", self.seed)]
        rows += [("graph_hash", self.graph_hash[:16]), ("method", self.method)]
        rows += [(name, self._over(name)) for name in self.fibres]
        return Card(title, rows, lambda: base_graph_svg(self.module, self.copies))

    def _over(self, name: str) -> str:
        # What is there of a base edge, in a line.
        count, target = int(self.fibres[name].count), self.module.edge_by_name[name].target
        inward = f"in-degree {count / self.copies[target]:.3g}"
        # Padding comes last; cut off by NumPy, so that nothing is copied or compiled.
        here = near(self.weights[name])
        weights = words(self.weights[name] if here is None else here[:count])
        return f"{count} edge{'s' * (count != 1)}, {inward}, weights {weights}"

    @property
    def copies(self) -> dict[str, int]:
        """The number of copies of each vertex."""
        return dict(self.sizes)

    @property
    def graph_hash(self) -> str:
        """SHA-256 of the lifted graph, hexadecimal: equal graphs, equal hashes, on any device."""
        return bytes(np.asarray(self.digest)).hex()

    @property
    def n_edges(self) -> int:
        """Number of lifted edges, padding not counted, over all base edges."""
        return sum(int(fibre.count) for fibre in self.fibres.values())

    @property
    def n_parameters(self) -> int:
        """Number of trainable numbers, padding not counted."""
        return sum(
            int(fibre.count) * int(np.prod(self.weights[name].shape[1:], dtype=int))
            for name, fibre in self.fibres.items()
        )

    @property
    def smooth(self) -> bool:
        """Whether the output is twice continuously differentiable in the weights (declared)."""
        return self.module.smooth

    @property
    def samples_per_pass(self) -> int | None:
        """How many samples at a time are fastest, None for all: see `flowlift.kernels`."""
        spaces = [(n, int(np.prod(self.module.shapes[name], dtype=int))) for name, n in self.sizes]
        copies, columns = max(spaces, key=math.prod)
        itemsize = max((w.dtype.itemsize for w in self.weights.values()), default=8)
        return samples_per_pass(copies * columns * itemsize, columns)

    def live(self) -> "Lift":
        """The lift with booleans for weights: True for those of edges, False for padding."""
        masks = {name: _spread(self.fibres[name], w.shape) for name, w in self.weights.items()}
        return eqx.tree_at(lambda lift: lift.weights, self, masks)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.result_type(*(w.dtype for w in self.weights.values()))

    def edges(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The lifted edges over one base edge, as plain arrays without padding.

        Args:
            name: the base edge.

        Returns:
            Sources (edges,), targets (edges,) and weights (edges, *W_e).
        """
        fibre = self.fibres[name]
        sources, targets = fibre.edges()
        return sources, targets, np.asarray(self.weights[name])[: len(sources)]

    def __call__(self, x: PyTree[ArrayLike]) -> PyTree[Array]:
        """The output for one sample, as equinox models have it; see `batch`."""
        one = lambda leaf: jnp.asarray(leaf)[None]
        whole = isinstance(x, Mapping)
        outputs = self.batch({k: one(v) for k, v in x.items()} if whole else one(x))
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    def batch(self, xs: PyTree[ArrayLike]) -> PyTree[Array]:
        """The outputs for many samples, fibre by fibre in topological order.

        Equal layers, or blocks of them, go through one compiled loop where there are many, so that
        compiling does not grow with depth.

        Cost: one multiply-add per lifted edge and sample, one sigma per copy and sample. Memory:
        copies x samples.

        Args:
            xs: with one input vertex, an array (samples, *data shape), where the data shape is
                Y_v for a single copy and (copies, *Y_v) for a fibre; with several, a dict of such
                arrays by vertex name.

        Returns:
            Likewise for the output vertices.
        """
        xs = self._by_vertex(xs)
        y: dict[str, Array] = {}
        for step in plan(self.module, self._kinds(_samples(xs))):
            if isinstance(step, Repeat):
                y |= self._repeated(step, xs, y)
            else:
                y[step] = self._activation(self.module.by_name[step], xs, y)
        outputs = {v.name: _to_data(y[v.name], v.copies) for v in self.module.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def activations(self, xs: PyTree[ArrayLike]) -> dict[str, Array]:
        """Every copy's activation, for looking inside.

        Args:
            xs: as for `batch`.

        Returns:
            For each vertex, an array (copies, samples, *Y_v); the constant's samples axis is 1.
        """
        xs = self._by_vertex(xs)
        y: dict[str, Array] = {}
        for name in self.module.order:
            y[name] = self._activation(self.module.by_name[name], xs, y)
        return y

    def _by_vertex(self, xs: PyTree[ArrayLike]) -> Mapping:
        xs = xs if isinstance(xs, Mapping) else {self.module.inputs[0].name: xs}
        _check_inputs(self.module, xs)
        return xs

    def _activation(self, vertex: Vertex, xs: Mapping, y: dict[str, Array]) -> Array:
        if isinstance(vertex, Input):
            return _from_data(xs[vertex.name], vertex.copies, self._dtype)
        if isinstance(vertex, Constant):
            types = [jnp.asarray(x).dtype for x in xs.values()]
            floats = [t for t in types if jnp.issubdtype(t, jnp.inexact)]
            return jnp.ones((1, 1), jnp.result_type(*floats or [self._dtype]))
        zs = tuple(self._fibre_sum(e, y[e.source]) for e in self.module.entering(vertex.name))
        return activation(vertex.map, zs, _samples(xs))

    def _kinds(self, samples: int) -> dict[str, Hashable]:
        return kinds(self.module, self.copies, self.weights, self.fibres, samples)

    def _repeated(self, repeat: Repeat, xs: Mapping, y: dict[str, Array]) -> dict[str, Array]:
        """The activations of the last of some equal blocks that are read further on."""
        module, last = self.module, repeat.blocks[-1]
        edges = [tuple(e.map for e in module.entering(name)) for name in last]
        block = Block(
            maps=tuple(v.map for n in last if isinstance(v := module.by_name[n], Hidden)),
            entering=tuple(
                tuple(zip(*pair, strict=True)) for pair in zip(edges, repeat.sources, strict=True)
            ),
            kept=repeat.kept,
            samples=_samples(xs),
            method=self.method,
        )
        both = lambda name: (self.weights[name], self.fibres[name])
        parts = [tuple(tuple(map(both, names)) for names in block) for block in repeat.edges]
        before = {at: y[name] for at, name in repeat.before}
        outside = {name: y[name] for name in repeat.outside}
        found = run(block, parts, repeat.edges, outside, before)
        return {last[at]: value for at, value in found.items()}

    def _fibre_sum(self, edge: Edge, y: Array) -> Array:
        name = edge_name(edge)
        return edge_sum(edge.map, self.fibres[name], self.weights[name], y, self.method)


def graph_digest(fibres: Mapping[str, Fibre], sizes: Mapping[str, int]) -> np.ndarray:
    """SHA-256 over the numbers of copies and the sorted edges of every base edge.

    Args:
        fibres: the lifted edges over each base edge.
        sizes: copies by vertex name.

    Returns:
        32 bytes, independent of platform and of the law that drew the graph.
    """
    digest = hashlib.sha256(repr(sorted(sizes.items())).encode())
    for name in sorted(fibres):
        digest.update(name.encode())
        for indices in fibres[name].edges():
            digest.update(np.asarray(indices, dtype="<i8").tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _check_inputs(module: PerceptronModule, xs: Mapping) -> None:
    wanted = {v.name for v in module.inputs}
    if set(xs) != wanted:
        raise ValueError(
            f"Argument `xs` must have one array per input vertex, {sorted(wanted)}, but has "
            f"{sorted(xs)}; pass a dict with these keys."
        )
    for vertex in module.inputs:
        expected = (() if vertex.copies is None else (vertex.copies,)) + vertex.shape
        given = np.shape(xs[vertex.name])
        if not given or given[1:] != expected:
            raise ValueError(
                f"Argument `xs` must have samples of shape {expected} for vertex "
                f"{vertex.name!r}, but has {given[1:]}; reshape the data."
            )
        check_real(f"xs[{vertex.name!r}]", xs[vertex.name])


def _samples(xs: Mapping) -> int:
    return np.shape(next(iter(xs.values())))[0]


def _spread(fibre: Fibre, shape: tuple[int, ...]) -> Array | np.ndarray:
    """One boolean for each edge, at each number of its weight."""
    if isinstance(fibre.count, Tracer):
        return jnp.broadcast_to(_column(fibre.real(), len(shape)), shape)
    # Of NumPy: nothing needs compiling for each shape, and a deep lift has hundreds of them.
    real = np.arange(fibre.capacity) < np.asarray(fibre.count)
    return np.broadcast_to(real.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _column(real: Bool[Array, " edges"], ndim: int) -> Array:
    return real.reshape(-1, *[1] * (ndim - 1))


def _from_data(x: ArrayLike, copies: int | None, dtype: jnp.dtype) -> Array:
    x = jnp.asarray(x)
    # Integers and booleans, exactly; floating-point inputs keep their own precision.
    x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(dtype)
    return x[None] if copies is None else jnp.moveaxis(x, 1, 0)


def _to_data(y: Array, copies: int | None) -> Array:
    return y[0] if copies is None else jnp.moveaxis(y, 0, 1)
