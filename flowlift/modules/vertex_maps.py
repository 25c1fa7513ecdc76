"""Vertex maps sigma_v : the tuple of pre-activations (z_e), e entering v, to the activation Y_v."""

import abc
import dataclasses
import functools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np

from ..numbers import plain_fields, real
from .edge_maps import Shape


def _identity(z):
    return z


def _gelu(z):
    return jax.nn.gelu(z, approximate=False)


def _erf_root2(z):
    return jsp.erf(z * 0.5**0.5)


POINTWISE: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "erf": jsp.erf,
    "erf_root2": _erf_root2,
    "sine": jnp.sin,
    "gelu": _gelu,
    "identity": _identity,
}
_KINKED = frozenset({"relu"})


def check_function(function: str | Callable, owner: str) -> None:
    """Refuse a phi that is neither callable nor a name in `POINTWISE`.

    Args:
        function: the candidate.
        owner: the vertex map that was given it.

    Raises:
        ValueError: if it is neither.
    """
    if not callable(function) and function not in POINTWISE:
        raise ValueError(
            f"Argument `function` of {owner} must be callable or one of "
            f"{', '.join(POINTWISE)}, but is {function!r}; pass the function itself."
        )


def resolve_function(function: str | Callable) -> Callable:
    """The elementwise function that a name means; a callable is applied to every entry by itself.

    So a callable that would mix entries, of one copy or of several samples, cannot.

    Args:
        function: a name in `POINTWISE`, or a function of a number.

    Returns:
        A function of an array.
    """
    if isinstance(function, str):
        return POINTWISE[function]
    return functools.partial(_entrywise, function)


def _entrywise(function: Callable, z: jax.Array) -> jax.Array:
    for _ in range(z.ndim):
        function = jax.vmap(function)
    return function(z)


def function_name(function: str | Callable, identity: str = "identity") -> str:
    """How a function is written in a drawing; `identity` is what the identity is called."""
    if function == "identity":
        return identity
    return function if isinstance(function, str) else getattr(function, "__name__", str(function))


def is_smooth(function: str | Callable, kinked: bool) -> bool:
    """False for relu and for what is declared kinked."""
    return not (kinked or function in _KINKED)


def common_shape(sources: tuple[Shape, ...], what: str) -> Shape:
    """The one shape that all pre-activations have.

    Args:
        sources: their shapes.
        what: the map, for the error.

    Returns:
        That shape.

    Raises:
        ValueError: if they differ.
    """
    if len(set(sources)) != 1:
        raise ValueError(f"{what} needs equal shapes, but gets {sources}")
    return sources[0]


def total(zs: tuple[jax.Array, ...]) -> jax.Array:
    """The broadcast sum: a constant's pre-activation has one sample for all."""
    return functools.reduce(operator.add, zs)


@plain_fields
@dataclasses.dataclass(frozen=True)
class Sine:
    """phi(z) = sin(omega z), for `Pointwise`.

    Attributes:
        frequency: omega.
    """

    frequency: float = 1.0

    def __call__(self, z: jax.Array) -> jax.Array:
        """sin(omega z)."""
        return jnp.sin(self.frequency * z)

    def __str__(self) -> str:
        """The formula."""
        return f"sin({self.frequency:g} z)"


@plain_fields
@dataclasses.dataclass(frozen=True)
class HermiteSum:
    """phi(z) = sum_k c_k he_k(z), for `Pointwise`, he_k = He_k / sqrt(k!) orthonormal.

    Attributes:
        coefficients: c_0, c_1, ..., one at least.
    """

    coefficients: tuple[float, ...]

    def __post_init__(self):
        """Refuse what is no polynomial.

        Raises:
            ValueError: for no coefficients, or ones that are no finite numbers.
        """
        given = self.coefficients
        found = tuple(map(real, given)) if isinstance(given, tuple | list) else ()
        if not found or not all(c is not None and math.isfinite(c) for c in found):
            raise ValueError(
                f"Argument `coefficients` must hold at least one finite number, but is {given!r};"
                " give e.g. (0.0, 0.0, 1.0) for he_2."
            )
        object.__setattr__(self, "coefficients", found)

    @property
    def powers(self) -> tuple[float, ...]:
        """The coefficients of 1, z, z^2, ..."""
        normalised = [c / math.sqrt(math.factorial(k)) for k, c in enumerate(self.coefficients)]
        return tuple(map(float, np.polynomial.hermite_e.herme2poly(normalised)))

    def __call__(self, z: jax.Array) -> jax.Array:
        """The sum, by Horner's rule."""
        total = jnp.zeros_like(z)
        for power in reversed(self.powers):
            total = total * z + power
        return total

    def __str__(self) -> str:
        """The sum in words."""
        terms = [f"{c:g} he{k}" for k, c in enumerate(self.coefficients) if c]
        return " + ".join(terms) or "0"


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


@plain_fields
@dataclasses.dataclass(frozen=True)
class Pointwise(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = phi(z_1 + ... + z_m), entry by entry.

    Attributes:
        function: "tanh", "softplus", "relu", "erf" (erf(z), without a factor),
            "erf_root2" (erf(z / sqrt(2))), "sine", "gelu" (z Phi(z), without the tanh
            approximation), "identity", or any elementwise callable.
        kinked: set it for a callable that is not twice differentiable, as relu.
    """

    function: str | Callable = "tanh"
    kinked: bool = False

    def __post_init__(self):
        """Refuse an unknown function name.

        Raises:
            ValueError: if `function` is neither callable nor a known name.
        """
        check_function(self.function, type(self).__name__)

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The common shape of the pre-activations.

        Args:
            sources: their shapes.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if they differ.
        """
        return common_shape(sources, "a pointwise map of a sum")

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """phi of the broadcast sum."""
        return resolve_function(self.function)(total(zs))

    @property
    def smooth(self) -> bool:
        """False for relu and for callables declared kinked."""
        return is_smooth(self.function, self.kinked)

    def __str__(self) -> str:
        """The function's name."""
        return function_name(self.function)


@plain_fields
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
                f"{self} does not accept {len(sources)} pre-activations of shapes {sources} "
                f"({_first_line(error)})"
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
