"""Vertex maps that act along an activation's own axes: pooling and normalisation."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ..numbers import plain_fields
from ..showing import shows_itself
from .edge_maps import Shape
from .vertex_maps import (
    AbstractVertexMap,
    check_function,
    common_shape,
    function_name,
    is_smooth,
    resolve_function,
    total,
)

_REDUCERS = {"mean": jnp.mean, "max": jnp.max}


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class Pool(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = pool(phi(z_1 + ... + z_m)): one number per window of the map.

    Windows do not overlap and must tile the map, so that no pixel is dropped.

    Attributes:
        window: side per axis; an integer for all axes; None for the whole map, Y_v = R.
        function: phi, as for `Pointwise`.
        reduce: "mean" or "max" (not differentiable where two entries tie).
        kinked: as for `Pointwise`.
    """

    window: int | tuple[int, ...] | None = 2
    function: str | Callable = "identity"
    reduce: str = "mean"
    kinked: bool = False

    def __post_init__(self):
        """Refuse unknown functions and reductions, and empty windows.

        Raises:
            ValueError: in each case.
        """
        check_function(self.function, type(self).__name__)
        if self.reduce not in _REDUCERS:
            raise ValueError(
                f"Argument `reduce` of Pool must be one of {', '.join(_REDUCERS)}, but is "
                f"{self.reduce!r}; choose one."
            )
        sides = self.window if isinstance(self.window, tuple) else (self.window or 1,)
        if self.window == 0 or not all(isinstance(n, int) and n >= 1 for n in sides):
            raise ValueError(
                f"Argument `window` of Pool must be None or integers of at least 1, but is "
                f"{self.window!r}; give e.g. 2."
            )

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The number of windows along each axis.

        Args:
            sources: shapes of the pre-activations.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if the shapes differ, or if windows do not tile the map.
        """
        shape = common_shape(sources, "pooling of a sum")
        if self.window is None:
            return ()
        window = self._window(shape)
        if len(window) != len(shape) or any(n % w for n, w in zip(shape, window, strict=True)):
            raise ValueError(f"windows {window} do not tile a map of shape {shape}")
        return tuple(n // w for n, w in zip(shape, window, strict=True))

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """The reduction over each window, an axis of its own after a reshape."""
        y, reducer = resolve_function(self.function)(total(zs)), _REDUCERS[self.reduce]
        space = y.shape[2:]
        if self.window is None:
            return reducer(y, axis=tuple(range(2, y.ndim)))
        sizes = [(n // w, w) for n, w in zip(space, self._window(space), strict=True)]
        y = y.reshape(*y.shape[:2], *(n for pair in sizes for n in pair))
        return reducer(y, axis=tuple(range(3, y.ndim, 2)))

    @property
    def smooth(self) -> bool:
        """As phi is; False for "max"."""
        return self.reduce == "mean" and is_smooth(self.function, self.kinked)

    def _window(self, shape: Shape) -> tuple[int, ...]:
        return self.window if isinstance(self.window, tuple) else (self.window or 1,) * len(shape)

    def __str__(self) -> str:
        """The formula."""
        size = "map" if self.window is None else self.window
        return f"{self.reduce} over {size} of {function_name(self.function, 'sum')}"


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class Normalise(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = phi((z - mean z) / sqrt(var z + epsilon)), z = z_1 + ... + z_m.

    Mean and variance run over the activation's **own** axes, never over copies or samples: layer
    normalisation (Ba et al., 2016) of the channels that one copy of a token vertex carries,
    instance normalisation (Ulyanov et al., 2016) of a feature map.

    Attributes:
        axes: how many of the last axes are normalised together; None for all.
        function: phi, as for `Pointwise`.
        epsilon: added to the variance.
        kinked: as for `Pointwise`.
    """

    axes: int | None = None
    function: str | Callable = "identity"
    epsilon: float = 1e-5
    kinked: bool = False

    def __post_init__(self):
        """Refuse unknown functions, and an epsilon without which sigma_v is not differentiable.

        Raises:
            ValueError: in each case.
        """
        check_function(self.function, type(self).__name__)
        if not self.epsilon > 0:
            raise ValueError(
                f"Argument `epsilon` of Normalise must be positive, but is {self.epsilon!r}; "
                "give e.g. 1e-5."
            )

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The common shape of the pre-activations.

        Args:
            sources: their shapes.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if they differ, or hold a single number, which would become zero.
        """
        shape = common_shape(sources, "normalisation of a sum")
        axes = len(shape) if self.axes is None else self.axes
        if not 1 <= axes <= len(shape) or math.prod(shape[len(shape) - axes :]) < 2:
            raise ValueError(
                f"normalisation over the last {axes} axes of shape {shape} needs at least two "
                "entries"
            )
        return shape

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """Normalised, then phi."""
        z = total(zs)
        count = z.ndim - 2 if self.axes is None else self.axes
        axes = tuple(range(z.ndim - count, z.ndim))
        centred = z - jnp.mean(z, axis=axes, keepdims=True)
        variance = jnp.mean(centred**2, axis=axes, keepdims=True)
        return resolve_function(self.function)(centred * lax.rsqrt(variance + self.epsilon))

    @property
    def smooth(self) -> bool:
        """As phi is."""
        return is_smooth(self.function, self.kinked)

    def __str__(self) -> str:
        """The formula."""
        phi = function_name(self.function, "")
        return f"{phi} of normalised sum" if phi else "normalised sum"
