"""What a quantity will cost at most, said before it is spent: in gradients and in bytes."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..flow.chunking import bytes_per_sample, samples_at_a_time
from ..memory import in_gigabytes
from ..showing import shows_itself
from ..tasks import Supervised
from ..tasks.added import data_of
from .observers import Observer
from .room import vectors_within
from .tangent_approximation import MAX_PRODUCTS

# Hutch++ of the tangent kernel, and Lanczos at one end or both, unless told otherwise.
_PROBES, _ENDS = 48, 300


@shows_itself
@dataclasses.dataclass(frozen=True)
class Foreseen:
    """Bounds of the cost of one measurement.

    Attributes:
        gradients: at most so many, as results count them.
        bytes: of the vectors that are kept, and the activations of the samples of one pass, both
            counted as if nothing were freed before the end.
    """

    gradients: int
    bytes: int

    @property
    def text(self) -> str:
        """Both in words."""
        return f"at most {self.gradients:,} gradients and {in_gigabytes(self.bytes)} a measurement"


def foreseen(observer: Observer, model: PyTree) -> Foreseen:
    """What one measurement of an observer at a model costs at most. Nothing is computed.

    A flow pays it at every save time; `max_products` and `memory` of the observer lower it.

    Args:
        observer: the observer.
        model: the model, or one of its shapes.

    Returns:
        The bounds.
    """
    told = _Told(observer, model)
    products, sets, vector, each, beside = told.numbers()
    kept = sets * (products + 1) * vector
    return Foreseen(beside + each * products, kept + told.activations())


@dataclasses.dataclass(frozen=True)
class _Told:
    """An observer's arguments, with what its function takes for those that are left out."""

    observer: Observer
    model: PyTree

    def numbers(self) -> tuple[int, int, int, int, int]:
        """Products, sets of vectors, bytes of one, gradients a product, and gradients beside."""
        name, arguments = self.observer.name, self.observer.arguments
        probes = arguments.get("products", _PROBES)
        few = {"rayleigh": 2, "imbalance": 2, "outputs": 1}
        top = arguments.get("max_products") or 8 * arguments.get("count", 0) + 100
        known: dict[str, Callable[[], tuple[int, int, int, int, int]]] = {
            "sharpness": lambda: self._bounded(_ENDS, 1, self.theta, 3),
            "curvatures": lambda: self._bounded(_ENDS, 1, self.theta, 3),
            "hessian_top": lambda: self._bounded(top, 2, self.theta, 3),
            "kernel_top": lambda: self._bounded(top, 2, self.values, 1),
            "kernel_ends": lambda: self._bounded(_ENDS, 1, self.values, 1),
            "tangent_radius": lambda: self._bounded(MAX_PRODUCTS, 1, self.shorter, 1),
            "tangent_floor": lambda: self._bounded(MAX_PRODUCTS, 1, self.shorter, 1),
            "kernel_trace": lambda: (probes, 1, _bytes(self.values), 2, 1),
            "effective_rank": lambda: (probes, 1, _bytes(self.values), 2, 1),
            "alignment": lambda: (probes, 1, _bytes(self.values), 2, 3),
            "kernel_drift": lambda: (probes, 1, _bytes(self.values), 6, 2),
        }
        if name in known:
            return known[name]()
        return 0, 0, 0, 0, few.get(name, 0)

    def _bounded(self, most: int, sets: int, like, beside: int) -> tuple[int, int, int, int, int]:
        asked = self.observer.arguments.get("max_products", most)
        fits = 1 + vectors_within(self.observer.arguments.get("memory"), like, least=1, sets=sets)
        return min(asked, fits, like.size), sets, _bytes(like), 2, beside

    @property
    def theta(self) -> jax.ShapeDtypeStruct:
        trainable = self.observer.arguments.get("trainable", eqx.is_inexact_array)
        leaves = jax.tree.leaves(eqx.filter(self.model, trainable))
        return jax.ShapeDtypeStruct((sum(leaf.size for leaf in leaves),), leaves[0].dtype)

    @property
    def values(self) -> jax.ShapeDtypeStruct:
        data = data_of(self.observer.objective)
        assert isinstance(data, Supervised)
        outputs = eqx.filter_eval_shape(data.outputs, self.model)
        return jax.ShapeDtypeStruct((outputs.size,), outputs.dtype)

    @property
    def shorter(self) -> jax.ShapeDtypeStruct:
        return min(self.theta, self.values, key=lambda struct: struct.size)

    def activations(self) -> int:
        """Of the samples of one pass; 0 of a loss without samples."""
        data, memory = data_of(self.observer.objective), self.observer.arguments.get("memory")
        if not isinstance(data, Supervised):
            return 0
        bound = memory if data.separable else None
        samples = samples_at_a_time(self.model, data, bound)
        return samples * bytes_per_sample(self.model, data)


def _bytes(struct: jax.ShapeDtypeStruct) -> int:
    return struct.size * struct.dtype.itemsize
