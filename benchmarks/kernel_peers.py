"""One gradient of the same network, graph, weights and data, by the ways one would first try.

Every peer is a function of a `Network` that returns a callable: one gradient, finished when it
returns, as the list of the layers' gradients (edges, target by target).
"""

import dataclasses
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

# Of an array edges x samples, and of copies for a dense matrix.
LIMIT_BYTES, DENSE_COPIES = 4 << 30, 2048


@dataclasses.dataclass(frozen=True)
class Network:
    """Three sparse tanh layers of fixed in-degree, and a linear read-out; L = mean (F - f*)^2.

    Attributes:
        sources: for each sparse layer, (copies, in-degree) indices into the layer before.
        weights: likewise the weights; then the read-out's, (1, copies).
        x: the data, (inputs, samples): a gathered row is contiguous.
        targets: (samples,).
    """

    sources: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    x: np.ndarray
    targets: np.ndarray

    @property
    def copies(self) -> int:
        return self.sources[0].shape[0]

    @property
    def edges(self) -> int:
        return sum(s.size for s in self.sources)


def _jax_peer(layer: Callable, network: Network, structures: list, values: list) -> Callable:
    def loss(values, structures, x, targets):
        y = x
        for value, structure in zip(values[:-1], structures, strict=True):
            y = jnp.tanh(layer(value, structure, y))
        return jnp.mean(((values[-1] @ y)[0] - targets) ** 2)

    run = jax.jit(jax.value_and_grad(loss))
    arguments = jax.tree.map(jnp.asarray, (values, structures, network.x, network.targets))
    return lambda: jax.block_until_ready(run(*arguments))[1]


def gather_einsum(network: Network) -> Callable:
    def layer(w, s, y):
        return jnp.einsum("vk,vkb->vb", w, y[s])

    return _jax_peer(layer, network, list(network.sources), list(network.weights))


def bcoo(network: Network) -> Callable:
    n = network.copies

    def layer(w, pairs, y):
        matrix = BCOO((w, pairs), shape=(n, y.shape[0]), indices_sorted=True, unique_indices=True)
        return matrix @ y

    pairs = []
    for s in network.sources:
        targets = np.repeat(np.arange(n, dtype=np.int32), s.shape[1])
        pairs.append(np.stack([targets, s.reshape(-1)], 1))
    values = [w.reshape(-1) for w in network.weights[:-1]] + [network.weights[-1]]
    return _jax_peer(layer, network, pairs, values)


def dense_masked(network: Network) -> Callable:
    masks, matrices, width = [], [], network.x.shape[0]
    for s, w in zip(network.sources, network.weights[:-1], strict=True):
        mask, matrix = (np.zeros((len(s), width), w.dtype) for _ in range(2))
        np.put_along_axis(mask, s, 1, axis=1)
        np.put_along_axis(matrix, s, w, axis=1)
        masks, matrices, width = [*masks, mask], [*matrices, matrix], len(s)
    values = [*matrices, network.weights[-1]]
    return _jax_peer(lambda w, mask, y: (w * mask) @ y, network, masks, values)


def _torch_peer(layer: Callable, network: Network, structures: list, values: list) -> Callable:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    leaves = [torch.tensor(v, requires_grad=True) for v in values]
    x, targets = torch.tensor(network.x), torch.tensor(network.targets)

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = x
        for leaf, structure in zip(leaves[:-1], structures, strict=True):
            y = torch.tanh(layer(leaf, structure, y))
        torch.mean(((leaves[-1] @ y)[0] - targets) ** 2).backward()
        return [leaf.grad.numpy() for leaf in leaves]

    return run


def torch_gather(network: Network) -> Callable:
    import torch

    sources = [torch.tensor(s, dtype=torch.long) for s in network.sources]
    layer = lambda w, s, y: torch.einsum("vk,vkb->vb", w, y[s])
    return _torch_peer(layer, network, sources, list(network.weights))


def torch_sparse(network: Network) -> Callable:
    import torch

    n, pairs = network.copies, []
    for s in network.sources:
        targets = np.repeat(np.arange(n), s.shape[1])
        pairs.append(torch.tensor(np.stack([targets, s.reshape(-1)]), dtype=torch.long))

    def layer(w, pairs, y):
        matrix = torch.sparse_coo_tensor(pairs, w, (n, y.shape[0]), is_coalesced=True)
        return torch.sparse.mm(matrix, y)

    values = [w.reshape(-1) for w in network.weights[:-1]] + [network.weights[-1]]
    return _torch_peer(layer, network, pairs, values)


def available(network: Network) -> dict[str, Callable[[Network], Callable]]:
    """The peers that fit in memory, torch's only if it can be imported."""
    itemsize, columns = network.x.dtype.itemsize, network.x.shape[1]
    gathered = network.edges * columns * itemsize
    peers: dict[str, Callable] = {}
    if gathered <= LIMIT_BYTES:
        peers |= {"gather + einsum": gather_einsum, "BCOO": bcoo}
    if network.copies <= DENSE_COPIES:
        peers["dense masked"] = dense_masked
    try:
        import torch  # noqa: F401
    except ImportError:
        return peers
    peers["torch.sparse"] = torch_sparse
    return peers | ({"torch gather": torch_gather} if gathered <= LIMIT_BYTES else {})
