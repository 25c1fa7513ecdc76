"""Vertex maps sigma_v : the tuple of pre-activations (z_e), e entering v, to the activation Y_v."""

import abc
import dataclasses
import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp

from .edge_maps import Shape


def _identity(z):
    return z


POINTWISE: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "erf": jsp.erf,
    "sine": jnp.sin,
    "identity": _identity,
}
_KINKED = frozenset({"relu"})


class AbstractVertexMap(abc.ABC):
    """The map sigma_v of a vertex (theory, section 1 [paper]), on the **tuple** of pre-activations.

    The tuple is ordered as the edges were declared. Arrays are batched: shape
    (copies, samples, *Z_e).
    """

    @abc.abstractmethod
    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """Shape of Y_v for pre-activations of these shapes; ValueError if they do not fit."""

    @abc.abstractmethod
    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """Apply sigma_v to every copy and sample: (copies, samples, *Z_e) each."""

    @property
    @abc.abstractmethod
    def smooth(self) -> bool:
        """Whether sigma_v is twice continuously differentiable (declared, not checked)."""


@dataclasses.dataclass(frozen=True)
class Pointwise(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = phi(z_1 + ... + z_m), entry by entry.

    Attributes:
        function: "tanh", "softplus", "relu", "erf" (erf(z), without a factor), "sine",
            "identity", or any elementwise callable.
        kinked: set it for a callable that is not twice differentiable, as relu.
    """

    function: str | Callable = "tanh"
    kinked: bool = False

    def __post_init__(self):
        """Refuse an unknown function name.

        Raises:
            ValueError: if `function` is neither callable nor a known name.
        """
        if not callable(self.function) and self.function not in POINTWISE:
            raise ValueError(
                f"Argument `function` of Pointwise must be callable or one of "
                f"{', '.join(POINTWISE)}, but is {self.function!r}; pass the function itself."
            )

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The common shape of the pre-activations.

        Args:
            sources: their shapes.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if they differ.
        """
        if len(set(sources)) != 1:
            raise ValueError(f"a pointwise map of a sum needs equal shapes, but gets {sources}")
        return sources[0]

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """phi of the broadcast sum."""
        phi = self.function if callable(self.function) else POINTWISE[self.function]
        return phi(functools.reduce(operator.add, zs))

    @property
    def smooth(self) -> bool:
        """False for relu and for callables declared kinked."""
        return not (self.kinked or self.function in _KINKED)

    def __str__(self) -> str:
        """The function's name."""
        return self.function if isinstance(self.function, str) else self.function.__name__


@dataclasses.dataclass(frozen=True)
class TupleMap(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = f(z_1, ..., z_m) for any function f of the tuple.

    Attributes:
        function: takes m arrays (one sample, one copy) and returns one array.
        kinked: set it when f is not twice continuously differentiable.
    """

    function: Callable
    kinked: bool = False

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The shape that f returns, found without computing.

        Args:
            sources: shapes of the pre-activations.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if f refuses these shapes or returns several arrays.
        """
        structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in sources]
        try:
            result = jax.eval_shape(self.function, *structs)
        except Exception as error:
            raise ValueError(
                f"{self} does not accept pre-activations of shapes {sources}: {error}"
            ) from error
        if not isinstance(result, jax.ShapeDtypeStruct):
            raise ValueError(f"{self} must return one array, but returns {type(result).__name__}")
        return result.shape

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """f under vmap over copies and samples."""
        samples = max(z.shape[1] for z in zs)
        zs = tuple(jnp.broadcast_to(z, (z.shape[0], samples, *z.shape[2:])) for z in zs)
        return jax.vmap(jax.vmap(self.function))(*zs)

    @property
    def smooth(self) -> bool:
        """As declared."""
        return not self.kinked

    def __str__(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)
