"""A lift as plain arrays, a safetensors file, or SciPy's sparse matrices; and back."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..files import write_whole
from ..modules import AbstractEdgeMap, PerceptronModule, Shape
from .lift import Lift
from .sampling import from_edges

if TYPE_CHECKING:
    import scipy.sparse

_PARTS = ("sources", "targets", "weights")
# How many numbers a block of edge matrices may hold at once.
_BLOCK_NUMBERS = 1 << 22


def to_arrays(lift: Lift) -> dict[str, np.ndarray]:
    """All of a lift but its base module, as NumPy arrays without padding.

    Args:
        lift: the lift.

    Returns:
        For each base edge e three arrays, "e/sources" and "e/targets" (edges,), int32, and
        "e/weights" (edges, *W_e), sorted by (target, source); and for each vertex v its number of
        copies, "copies/v".
    """
    arrays = {f"copies/{name}": np.asarray(n, np.int32) for name, n in lift.sizes}
    for name in lift.fibres:
        for part, values in zip(_PARTS, lift.edges(name), strict=True):
            # One that no later change of ours, or of theirs, reaches.
            arrays[f"{name}/{part}"] = np.array(values, order="C")
    return arrays


def from_arrays(
    module: PerceptronModule, arrays: Mapping[str, np.ndarray], *, method: str = "auto"
) -> Lift:
    """The lift that `to_arrays` wrote, in the precision of its weights.

    Its weights and its graph, with its hash, are the same; its seed is -1.

    Args:
        module: the base module.
        arrays: as `to_arrays` returns them.
        method: as for `flowlift.sample`.

    Returns:
        The lift.

    Raises:
        ValueError: if arrays are missing or do not fit the module, or float64 without JAX's x64
            mode.
    """
    wanted = [f"copies/{v.name}" for v in module.vertices]
    wanted += [f"{name}/{part}" for name in module.edge_by_name for part in _PARTS]
    if set(arrays) != set(wanted):
        raise ValueError(
            "Argument `arrays` must hold what `to_arrays` writes for this module, but lacks "
            f"{sorted(set(wanted) - set(arrays))} and has besides "
            f"{sorted(set(arrays) - set(wanted))}; pass the module that the lift was drawn of."
        )
    edges = {
        e: (arrays[f"{e}/sources"], arrays[f"{e}/targets"], arrays[f"{e}/weights"])
        for e in module.edge_by_name
    }
    precisions = {str(weights.dtype) for _, _, weights in edges.values()}
    if len(precisions) != 1:
        raise ValueError(
            f"Argument `arrays` must hold weights of one dtype, but holds {sorted(precisions)}; "
            "convert them."
        )
    copies = {v.name: int(arrays[f"copies/{v.name}"]) for v in module.hidden}
    return from_edges(module, copies=copies, edges=edges, precision=precisions.pop(), method=method)


def save_safetensors(lift: Lift, path: str | os.PathLike) -> None:
    """Write `to_arrays` to a safetensors file, which many frameworks read.

    The file's metadata hold the text of the base module, the seed and the hash of the graph. The
    file appears whole or not at all.

    Args:
        lift: the lift.
        path: of the file.

    Raises:
        ImportError: without safetensors.
    """
    numpy_format = _safetensors().numpy
    metadata = {
        "module": str(lift.module),
        "seed": str(int(lift.seed)),
        "graph_hash": lift.graph_hash,
    }
    path = Path(path)
    content = numpy_format.save(to_arrays(lift), metadata)
    write_whole(path, lambda part: Path(part).write_bytes(content))


def load_safetensors(
    module: PerceptronModule, path: str | os.PathLike, *, method: str = "auto"
) -> Lift:
    """The lift that `save_safetensors` wrote; weights and graph are the same, bit by bit.

    Args:
        module: the base module, which the file does not hold: functions are no data.
        path: of the file.
        method: as for `flowlift.sample`.

    Returns:
        The lift, its seed -1.

    Raises:
        ImportError: without safetensors.
        ValueError: if the file was written of another module, or its graph has changed.
    """
    library = _safetensors()
    with library.safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("module") != str(module):
        raise ValueError(
            f"Argument `module` must be the one that {path} was written of, but is {module!r}; "
            "its text differs from that in the file's metadata."
        )
    lift = from_arrays(module, arrays, method=method)
    if lift.graph_hash != metadata.get("graph_hash"):
        raise ValueError(
            f"Argument `path` must hold the graph {metadata.get('graph_hash')}, but holds "
            f"{lift.graph_hash}; the file was changed, so write it again."
        )
    return lift


def to_scipy(lift: Lift) -> "dict[str, scipy.sparse.csr_array]":
    """Each base edge as the sparse matrix from all copies of its source to all of its target.

    The matrix of e = (u, v) takes the activations of u, flattened as (copies, *Y_u), to the
    pre-activations z_e at v, flattened as (copies, *Z_e): the block of a lifted edge is the
    Jacobian of M_e(w, .), a number for `Scalar`, a row for `InnerProduct`, a Toeplitz matrix for a
    convolution. Entries that are zero whatever the weights are left out; a weight that happens to
    be zero is kept, so that the matrix's pattern is the graph's.

    Cost: edges x |Z_e| x |Y_u| operations.

    Args:
        lift: the lift.

    Returns:
        By base edge, CSR matrices (n_v |Z_e|, n_u |Y_u|).

    Raises:
        ValueError: for an edge map that is not linear in the activation.
    """
    matrices = {}
    for name, edge in lift.module.edge_by_name.items():
        source = lift.module.shapes[edge.source]
        rows = int(np.prod(edge.map.output_shape(source), dtype=int))
        columns = int(np.prod(source, dtype=int))
        matrices[name] = _matrix(lift, name, edge.map, source, (rows, columns))
    return matrices


def _matrix(lift: Lift, name: str, edge_map: AbstractEdgeMap, source: Shape, size):
    import scipy.sparse

    sources, targets, weights = lift.edges(name)
    fibre, (rows, columns) = lift.fibres[name], size
    flat = lambda w, y: edge_map(w, y.reshape(source)).ravel()
    jacobians = jax.jit(jax.vmap(jax.jacfwd(flat, argnums=1), in_axes=(0, None)))
    row, column = np.nonzero(_pattern(jacobians, name, weights, columns))
    block, y = max(1, _BLOCK_NUMBERS // max(1, rows * columns)), jnp.zeros(columns, weights.dtype)
    parts = [
        np.asarray(jacobians(jnp.asarray(weights[i : i + block]), y))[:, row, column]
        for i in range(0, len(sources), block)
    ]
    values = np.concatenate([np.zeros((0, len(row)), weights.dtype), *parts])
    places = (targets[:, None] * rows + row, sources[:, None] * columns + column)
    shape = (fibre.n_targets * rows, fibre.n_sources * columns)
    return scipy.sparse.csr_array((values.ravel(), tuple(p.ravel() for p in places)), shape)


def _pattern(jacobians, name: str, weights: np.ndarray, columns: int) -> np.ndarray:
    """Where the Jacobian depends on weights at all; a linear map's is the same at every y."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.uniform(0.5, 1.5, (1, *weights.shape[1:])), weights.dtype)
    ends = [jnp.zeros(columns, weights.dtype), jnp.asarray(rng.random(columns), weights.dtype)]
    here, there = (np.asarray(jacobians(w, y))[0] for y in ends)
    if not np.allclose(here, there):
        raise ValueError(
            f"Argument `lift` must have edge maps that are linear in the activation, but that of "
            f"edge {name!r} is not; use `to_arrays`."
        )
    return here != 0


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Writing and reading safetensors needs the package safetensors, which is not "
            "installed; run pip install 'flowlift[safetensors]'."
        ) from error
    return safetensors
