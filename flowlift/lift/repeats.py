"""Equal blocks of vertices in a row: which they are, so that one program serves all of them."""

import dataclasses
import heapq
import itertools
from collections.abc import Hashable

from ..modules import Hidden, PerceptronModule, edge_name

# A loop takes some 30 programs of its own: to stack weights and graphs, to keep activations, to
# take gradients apart. It pays from so many spared blocks on that together have so many edges
# (benchmarks/compile_time.py).
_LEAST_BLOCKS, _LEAST_EDGES = 3, 10

Source = tuple[str, int] | tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Consecutive blocks of vertices that do the same with weights and graphs of their own.

    Attributes:
        blocks: the vertices of each block, in topological order.
        sources: for each vertex of a block, where its edges come from: ("own", place in this
            block), ("previous", place in the block before) or ("outside", the vertex).
        before: by place, the vertex outside that the first block reads in place of a block before.
        edges: for each block, the names of the edges that enter its vertices, vertex by vertex.
        kept: places that are read beyond their block.
    """

    blocks: tuple[tuple[str, ...], ...]
    sources: tuple[tuple[Source, ...], ...]
    before: tuple[tuple[int, str], ...]
    edges: tuple[tuple[tuple[str, ...], ...], ...]
    kept: tuple[int, ...]

    @property
    def outside(self) -> set[str]:
        """The vertices outside that every block reads."""
        return {str(at) for of in self.sources for kind, at in of if kind == "outside"}


def plan(module: PerceptronModule, alike: dict[str, Hashable]) -> list[str | Repeat]:
    """The vertices in topological order, equal blocks of them taken together where it pays.

    Blocks are equal if their vertices do the same to pre-activations of the same edges, and each
    reads from its own block, the block before, or the same vertices outside; and if nothing but
    the next block reads from any block but the last.

    Cost: at most vertices² comparisons of numbers, once for each trace.

    Args:
        module: the base module.
        alike: for each hidden vertex that may be grouped, what must be equal: maps, numbers of
            copies, shapes of weights and graphs.

    Returns:
        Names of vertices, and repeats.
    """
    order, steps, i = _order(module), [], 0
    readers = _readers(module)
    while i < len(order):
        found = _longest(module, alike, readers, order[i:])
        steps.append(order[i] if found is None else found)
        i += 1 if found is None else len(found.blocks) * len(found.blocks[0])
    return steps


def _order(module: PerceptronModule) -> tuple[str, ...]:
    """The topological order that is nearest to the declaration, where blocks stand together."""
    number = {v.name: i for i, v in enumerate(module.vertices)}
    missing = {name: {e.source for e in module.entering(name)} for name in number}
    readers = _readers(module)
    ready = [(i, name) for name, i in number.items() if not missing[name]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        for reader in readers[name]:
            missing[reader].discard(name)
            if not missing[reader]:
                heapq.heappush(ready, (number[reader], reader))
    return tuple(order)


def _readers(module: PerceptronModule) -> dict[str, set[str]]:
    readers: dict[str, set[str]] = {name: set() for name in module.order}
    for edge in module.edges:
        readers[edge.source].add(edge.target)
    return readers


def _longest(module: PerceptronModule, alike, readers, order) -> Repeat | None:
    """The repeat that starts an order and spares most edges, if any spares enough."""
    best, most = None, 0
    for period in range(1, len(order) // 2 + 1):
        if alike.get(order[period - 1]) is None:
            break
        # Most periods fail here, by one comparison.
        if alike[order[0]] != alike.get(order[period]):
            continue
        blocks = _equal_blocks(module, alike, order, period)
        blocks = _read_by_the_next_alone(blocks, readers)
        spared = len(blocks) - 1
        edges = spared * sum(len(module.entering(name)) for name in blocks[0])
        if spared >= _LEAST_BLOCKS and edges >= max(_LEAST_EDGES, most + 1):
            best, most = blocks, edges
    return None if best is None else _repeat(module, best, readers)


def _equal_blocks(module: PerceptronModule, alike, order, period: int):
    cut = lambda j: order[j * period : (j + 1) * period]
    blocks = [cut(0)]
    while len(block := cut(len(blocks))) == period:
        pairs = zip(block, blocks[0], strict=True)
        if any(alike.get(name) is None or alike[name] != alike[first] for name, first in pairs):
            break
        if _sources(module, block, blocks[-1]) != _rule(module, blocks, block):
            break
        blocks.append(block)
    return blocks


def _rule(module: PerceptronModule, blocks, block):
    """How the block must read: as the second one does, which must agree with the first."""
    if len(blocks) > 1:
        return _sources(module, blocks[1], blocks[0])
    rule = _sources(module, block, blocks[0])
    return rule if _before(module, blocks[0], rule) is not None else None


def _sources(module: PerceptronModule, block, previous) -> tuple[tuple[Source, ...], ...]:
    place = {name: ("previous", at) for at, name in enumerate(previous)}
    place |= {name: ("own", at) for at, name in enumerate(block)}
    return tuple(
        tuple(place.get(e.source, ("outside", e.source)) for e in module.entering(name))
        for name in block
    )


def _before(module: PerceptronModule, block, rule) -> dict[int, str] | None:
    """What the first block reads for a block before it; None if it does not read by the rule."""
    before: dict[int, str] = {}
    for name, sources in zip(block, rule, strict=True):
        for edge, (kind, at) in zip(module.entering(name), sources, strict=True):
            if kind == "previous":
                if before.setdefault(at, edge.source) != edge.source or edge.source in block:
                    return None
            elif edge.source != (block[at] if kind == "own" else at):
                return None
    hidden = all(isinstance(module.by_name[name], Hidden) for name in before.values())
    return before if hidden else None


def _read_by_the_next_alone(blocks, readers):
    while len(blocks) > 1:
        inner = itertools.pairwise(blocks)
        if all(readers[v] <= {*block, *after} for block, after in inner for v in block):
            break
        blocks = blocks[:-1]
    return blocks


def _repeat(module: PerceptronModule, blocks, readers) -> Repeat:
    rule = _sources(module, blocks[1], blocks[0])
    before = _before(module, blocks[0], rule) or {}
    entering = lambda name: tuple(edge_name(e) for e in module.entering(name))
    last = blocks[-1]
    return Repeat(
        blocks=tuple(blocks),
        sources=rule,
        before=tuple(sorted(before.items())),
        edges=tuple(tuple(entering(name) for name in block) for block in blocks),
        kept=tuple(at for at, v in enumerate(last) if at in before or readers[v] - set(last)),
    )
