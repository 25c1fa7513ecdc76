"""Equal blocks of a lift as one compiled loop over their stacked weights and graphs."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ..kernels import Fibre, same_variance
from ..modules import Hidden, PerceptronModule, edge_name
from ..modules.edge_maps import AbstractEdgeMap
from ..modules.vertex_maps import AbstractVertexMap
from .fibre_sums import edge_sum
from .repeats import Source

# A loop over layers of 2^13 activations takes 0.02 ms more for a layer's gradient and 0.05 ms more
# for its Hessian product than the layers one by one, which take 0.2 s more to compile: at twice as
# many activations this is even after some 1,500 of each (benchmarks/compile_time.py).
_MOST_NUMBERS = 1 << 14
# For each vertex of a block, weights and graph of each entering edge.
Part = tuple[tuple[tuple[Array, Fibre], ...], ...]
Names = tuple[tuple[str, ...], ...]
Activations = dict[int, Array]


@dataclasses.dataclass(frozen=True)
class Block:
    """What equal blocks do, without their weights and graphs.

    Attributes:
        maps: sigma_v of each vertex.
        entering: for each vertex, M_e and the source of each entering edge, see `Repeat`.
        kept: places that are read beyond the block.
        samples: number of samples.
        method: as for `flowlift.kernels.fibre_sum`.
    """

    maps: tuple[AbstractVertexMap, ...]
    entering: tuple[tuple[tuple[AbstractEdgeMap, Source], ...], ...]
    kept: tuple[int, ...]
    samples: int
    method: str

    def step(self, part: Part, outside: Mapping[str, Array], previous: Activations) -> Activations:
        """The kept activations of one block, from those of the block before."""
        own: Activations = {}
        read = {"own": own, "previous": previous, "outside": outside}
        for at, (vertex_map, entering) in enumerate(zip(self.maps, self.entering, strict=True)):
            zs = tuple(
                edge_sum(edge_map, fibre, w, read[where][key], self.method)
                for (edge_map, (where, key)), (w, fibre) in zip(entering, part[at], strict=True)
            )
            own[at] = activation(vertex_map, zs, self.samples)
        return {at: own[at] for at in self.kept}


def activation(vertex_map: AbstractVertexMap, zs: tuple[Array, ...], samples: int) -> Array:
    """sigma_v of all copies, the same for all samples where no input was read.

    Args:
        vertex_map: sigma_v.
        zs: pre-activations (copies, samples or 1, *Z_e) of each entering edge.
        samples: number of samples.

    Returns:
        Activations (copies, samples, *Y_v).
    """
    result = vertex_map.batched(zs)
    return jnp.broadcast_to(result, (result.shape[0], samples, *result.shape[2:]))


def kinds(
    module: PerceptronModule,
    copies: Mapping[str, int],
    weights: Mapping[str, Array],
    fibres: Mapping[str, Fibre],
    samples: int,
) -> dict[str, Hashable]:
    """What must be equal of two hidden vertices that one program is to serve.

    Where activations are many, a loop that keeps them runs longer than compiling it spares.

    Args:
        module: the base module.
        copies: of each vertex.
        weights: of each base edge.
        fibres: of each base edge.
        samples: number of samples.

    Returns:
        By vertex of at most `_MOST_NUMBERS` activations: its map, copies and space, and for each
        entering edge its map, and shapes and structure of its weights and graph.
    """

    def of_edge(edge):
        leaves, tree = jax.tree.flatten((weights[edge_name(edge)], fibres[edge_name(edge)]))
        return edge.map, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    return {
        v.name: (
            v.map,
            copies[v.name],
            module.shapes[v.name],
            tuple(map(of_edge, module.entering(v.name))),
        )
        for v in module.vertices
        if isinstance(v, Hidden)
        and copies[v.name] * samples * math.prod(module.shapes[v.name]) <= _MOST_NUMBERS
    }


def run(
    block: Block,
    parts: Sequence[Part],
    names: Sequence[Names],
    outside: Mapping[str, Array],
    before: Activations,
) -> Activations:
    """The kept activations of the last of some equal blocks.

    Args:
        block: what each of them does.
        parts: weights and graph of each.
        names: of these weights.
        outside: activations, by vertex, that all of them read.
        before: what the first reads in place of a block before it.

    Returns:
        Activations by place.
    """
    after = jax.eval_shape(block.step, parts[0], outside, before)
    before = {at: before.get(at, jnp.zeros(x.shape, x.dtype)) for at, x in after.items()}
    if any((before[at].shape, before[at].dtype) != (x.shape, x.dtype) for at, x in after.items()):
        # The first block reads activations of another kind than it gives: of another precision.
        return functools.reduce(lambda y, part: block.step(part, outside, y), parts, before)
    return _loop(block, _stacked(parts, names), outside, before)


def _stacked(parts: Sequence[Part], names: Sequence[Names]) -> Part:
    stack = lambda *leaves: jnp.stack(leaves)
    return tuple(
        tuple(
            (
                _in_order([part[at][i][0] for part in parts], [of[at][i] for of in names]),
                jax.tree.map(stack, *(part[at][i][1] for part in parts)),
            )
            for i in range(len(entering))
        )
        for at, entering in enumerate(names[0])
    )


def _in_order(weights: Sequence[Array], names: Sequence[str]) -> Array:
    """The stack of some weights, whose names say in which order they lie in the flow's vector."""
    # Joined in the order of that vector, they are one piece of it, and XLA neither cuts it into
    # weights nor their gradient into pieces: two programs in place of two for each layer.
    order = np.argsort(names)
    flat = jnp.concatenate([weights[i].ravel() for i in order])
    place = np.argsort(order)
    stack = flat.reshape(len(names), *weights[0].shape)
    return stack.at[place].get(mode="promise_in_bounds", unique_indices=True)


# A function of its own, so that calls outside of compiled programs find it compiled.
@functools.partial(jax.jit, static_argnums=0)
def _loop(block: Block, parts: Part, outside: Mapping[str, Array], y: Activations) -> Activations:
    def step(y, part):
        return _varying_as(block.step(part, outside, y), y), None

    return lax.scan(step, _varying_as(y, (parts, outside)), parts)[0]


def _varying_as(y: Activations, others: PyTree[Array]) -> Activations:
    """What a loop over shards carries must vary over the same devices before and after."""
    leaves, tree = jax.tree.flatten(y)
    return tree.unflatten(same_variance([*leaves, *jax.tree.leaves(others)])[: len(leaves)])
