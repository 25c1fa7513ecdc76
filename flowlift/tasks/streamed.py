"""Samples that stay in files: read chunk by chunk as a flow goes, never all at once."""

import functools
import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from ..compilations import keep_compilations
from .chunks import SAY_SO, Part, Samples
from .losses import AbstractLoss, resolve_loss
from .outputs import output_shapes
from .task import AbstractObjective, Task, check_outputs

# Bytes that are read at a time where nothing else bounds them.
READ = 64_000_000
_REMEDY = "save it by numpy.save and open it by numpy.load(path, mmap_mode='r')"


class Rows:
    """Arrays (samples, ...) that are read by rows: from files, past their mappings, or in memory.

    Pages of a mapping that were touched stay resident; what is read from the file does not.

    Attributes:
        samples: n.
        digest: of all bytes, by which checkpoints know the data.
    """

    def __init__(self, tree: PyTree):
        """Read all of it once, to see that it is finite.

        Args:
            tree: arrays of numbers with one first axis; those that are mapped contiguous.

        Raises:
            ValueError: for anything else.
        """
        leaves, self._structure = jax.tree.flatten(tree)
        self._sources = tuple(_source(leaf) for leaf in leaves)
        lengths = {shape[:1] for _, _, _, shape in self._sources}
        if len(lengths) != 1 or not next(iter(lengths)) or not next(iter(lengths))[0]:
            raise ValueError(
                "Arguments `inputs` and `targets` must hold equally many samples, at least one, on "
                f"their first axis, but hold {sorted(lengths)}; reshape or drop samples."
            )
        self.samples = next(iter(lengths))[0]
        digest = hashlib.sha256(repr(self._sources_without_places).encode())
        for first in range(0, self.samples, self.rows_of(READ)):
            last = min(self.samples, first + self.rows_of(READ))
            for leaf in jax.tree.leaves(self.read(first, last)):
                bad = np.count_nonzero(~np.isfinite(leaf))
                if bad:
                    raise ValueError(
                        "Arguments `inputs` and `targets` must be finite, but hold values that are "
                        f"not in rows {first} to {last}; remove or impute them."
                    )
                digest.update(np.ascontiguousarray(leaf).tobytes())
        self.digest = digest.hexdigest()

    @property
    def _sources_without_places(self) -> list[Any]:
        return [(dtype, shape) for _, _, dtype, shape in self._sources]

    @property
    def bytes_of_a_row(self) -> int:
        """Bytes of one sample."""
        return sum(_row(dtype, shape) for _, _, dtype, shape in self._sources)

    def rows_of(self, memory: int) -> int:
        """How many samples so many bytes hold, at least one."""
        return max(1, memory // max(1, self.bytes_of_a_row))

    def read(self, first: int, last: int) -> PyTree[np.ndarray]:
        """The samples from one to another, in memory.

        Args:
            first: the first.
            last: the one after the last.

        Returns:
            Arrays (last - first, ...).
        """
        return self._structure.unflatten([_read(s, first, last) for s in self._sources])

    def like(self, samples: int) -> PyTree:
        """Shapes and types of so many samples."""
        each = lambda s: jax.ShapeDtypeStruct(
            (samples, *s[3][1:]), jax.dtypes.canonicalize_dtype(s[2])
        )
        return self._structure.unflatten([each(source) for source in self._sources])

    def __reduce__(self):
        """By places and digest: a copy elsewhere reads the same files."""
        return _again, (self._sources, self._structure, self.samples, self.digest)


def _again(sources, structure, samples: int, digest: str) -> Rows:
    rows = object.__new__(Rows)
    rows._sources, rows._structure, rows.samples, rows.digest = sources, structure, samples, digest
    return rows


def _source(leaf: Any) -> tuple[Any, int, np.dtype, tuple[int, ...]]:
    """A file with an offset, or an array; type and shape."""
    if not hasattr(leaf, "__array__") or isinstance(leaf, Tracer):
        raise ValueError(
            f"Arguments `inputs` and `targets` must be arrays, but hold a {type(leaf).__name__}; "
            f"{_REMEDY}."
        )
    if not isinstance(leaf, np.memmap):
        leaf = np.asarray(leaf)
    if not (np.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool):
        raise ValueError(
            f"Arguments `inputs` and `targets` must hold numbers, but hold {leaf.dtype}; encode "
            "them as numbers."
        )
    root: Any = leaf
    while isinstance(root.base, np.memmap):
        root = root.base
    if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap):
        return leaf, 0, leaf.dtype, leaf.shape
    if not leaf.flags.c_contiguous or root.mode == "c":
        raise ValueError(
            "Arguments `inputs` and `targets` must be contiguous mappings of what is in their "
            f"files, but one is a view by strides or of mode 'c'; {_REMEDY}."
        )
    start = lambda array: array.__array_interface__["data"][0]
    return str(root.filename), root.offset + start(leaf) - start(root), leaf.dtype, leaf.shape


def _row(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * int(np.prod(shape[1:]))


def _read(source: tuple[Any, int, np.dtype, tuple[int, ...]], first: int, last: int) -> np.ndarray:
    place, offset, dtype, shape = source
    if not isinstance(place, str):
        return place[first:last]
    count = (last - first) * int(np.prod(shape[1:]))
    numbers = np.fromfile(place, dtype, count, offset=offset + first * _row(dtype, shape))
    return numbers.reshape(last - first, *shape[1:])


class Streamed(AbstractObjective):
    """L = (1/n) sum_i ell(F(x_i), y_i) over samples in files, as a sum over chunks that are read.

    No program sees all samples: the host reads a chunk, a compiled program takes its sum, and the
    host adds them up. Only flows that the host drives can do that.

    Attributes:
        rows: inputs and targets.
        loss: ell.
        apply: as for `Supervised`.
        samplewise: whether `apply` is said to act on each sample by itself.
        at_a_time: samples of a chunk.
    """

    rows: Rows = eqx.field(static=True)
    loss: AbstractLoss
    apply: Callable | None = None
    samplewise: bool = eqx.field(static=True, default=False)
    at_a_time: int = eqx.field(static=True, default=1)

    def __call__(self, model: PyTree) -> Float[Array, ""]:
        """The mean over samples, of a model whose numbers are known."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(model)):
            raise ValueError(
                "Argument `task` must hold its samples in memory for what is compiled as a whole, "
                "but streams them from files; take `tasks.supervised`, or fewer samples for "
                "instruments beside a flow that is driven from the host."
            )
        of_part = eqx.filter_jit(lambda part, model: part(model))
        return jnp.asarray(sum(of_part(part, model) for part in self.parts()))

    @property
    def separable(self) -> bool:
        """It is refused otherwise."""
        return True

    def parts(self, dtype: Any = None) -> Iterator[Part]:
        """The chunks in order, equally long: the last is filled up by its last sample at weight 0.

        Args:
            dtype: of floating-point data; None for their own.

        Yields:
            Them, each read when it is asked for.
        """
        rows, n = self.rows, self.rows.samples
        count = -(-n // self.at_a_time)
        length = -(-n // count)
        for first in range(0, n, length):
            last = min(n, first + length)
            index = np.minimum(np.arange(length), last - first - 1)
            taken = functools.partial(_taken, index=index, dtype=dtype)
            inputs, targets = jax.tree.map(taken, rows.read(first, last))
            weights = np.where(np.arange(length) < last - first, 1 / n, 0.0)
            weights = jnp.asarray(weights, dtype)
            yield Part(Samples(inputs, targets, weights), self.loss, self.apply)

    def check(self, model: PyTree) -> None:
        """Refuse a model whose outputs do not fit the targets; of the samples, targets are read.

        Args:
            model: the model.

        Raises:
            ValueError: as for `Supervised`.
        """
        for first in range(0, self.rows.samples, self.rows.rows_of(READ)):
            last = min(self.rows.samples, first + self.rows.rows_of(READ))
            outputs = output_shapes(model, self.rows.like(last - first)[0], self.apply)
            check_outputs(self.loss, outputs, jnp.asarray(self.rows.read(first, last)[1]))


def _taken(leaf: np.ndarray, index: np.ndarray, dtype: Any) -> Array:
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    whole = leaf if len(leaf) == len(index) else leaf[index]
    return jnp.asarray(whole, dtype if real else None)


def streamed(
    inputs: PyTree,
    targets: Any,
    loss: str | AbstractLoss | Callable = "squared",
    *,
    name: str = "streamed",
    apply: Callable | None = None,
    samplewise: bool = False,
    provenance: Mapping[str, object] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Task:
    """A task from samples that do not fit into memory: arrays that are mapped from files.

    Each gradient is exact, over all samples: the host reads a chunk, a compiled program takes its
    part of the sum. `memory` of `solve` bounds a chunk with what a gradient makes of it; without it
    a chunk has 64 MB, or as many samples as the model says. Flows run by the solvers of the host
    on one CPU; what is compiled as a whole (`engine="graph"`, `trajectory`, observers and
    instruments on this task) is refused. All is read once when the task is made.

    Args:
        inputs: arrays (samples, ...) as `numpy.load(path, mmap_mode="r")` gives them, or a dict of
            such; arrays in memory may be among them.
        targets: likewise.
        loss: as for `supervised`.
        name: a short name.
        apply: as for `supervised`; samples must act each by themselves.
        samplewise: say True if `apply` acts on each sample by itself.
        provenance: where the data come from.
        facts: exact facts known of it.

    Returns:
        The task. Cost of each gradient: as without files, and reading them.

    Raises:
        ValueError: if the data are no such arrays or not finite, or samples may be coupled.
    """
    if apply is not None and not samplewise:
        raise ValueError(
            "Argument `apply` must act on each sample by itself where samples come in chunks, but "
            f"may couple them; {SAY_SO}."
        )
    keep_compilations()
    rows = Rows((inputs, targets))
    objective = Streamed(rows, resolve_loss(loss), apply, samplewise, rows.rows_of(READ))
    return Task(name, objective, provenance or {}, facts or {})
