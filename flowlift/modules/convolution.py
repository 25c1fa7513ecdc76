"""Edges that carry a kernel: convolutions of feature maps, in any number of dimensions."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax

from ..numbers import plain_fields
from .edge_maps import AbstractEdgeMap, Shape

Padding = str | int | tuple[tuple[int, int], ...]


@plain_fields
@dataclasses.dataclass(frozen=True)
class Convolution(AbstractEdgeMap):
    """M_e(w, y)_i = sum_j w_j y_{s i + j - p}: one kernel slides over one feature map.

    W_e = R^kernel, Y_u = R^space, Z_e = R^{space'}, with as many axes as `kernel` has entries.
    A copy of a vertex is one channel, so that the complete lift of a convolution edge is the
    ordinary convolution between channels (theory, section 2 [proved]), and a sparse lift joins
    few channels. As everywhere in deep learning this is a cross-correlation.

    Cost: one multiply-add per kernel entry and output pixel, as a sum of shifted maps: on a CPU
    much faster than a grouped convolution and its transposes. The sum is unrolled, so that
    compile time grows with the number of entries of the kernel.

    Attributes:
        kernel: its shape, (k,) in 1-D, (k1, k2) in 2-D; an integer means (k,).
        stride: s, for all axes or per axis.
        padding: "same" (stride 1 keeps the shape; zeros outside), "valid" (none), the number of
            zeros p on both sides of every axis, or (before, after) per axis.
    """

    kernel: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Padding = "same"

    def __post_init__(self):
        """Refuse kernels, strides and paddings that mean nothing.

        Raises:
            ValueError: if a size is below 1, or a padding unknown or negative.
        """
        kernel = (self.kernel,) if isinstance(self.kernel, int) else tuple(self.kernel)
        object.__setattr__(self, "kernel", kernel)
        axes = len(kernel)
        stride = (self.stride,) * axes if isinstance(self.stride, int) else tuple(self.stride)
        object.__setattr__(self, "stride", stride)
        for name, sizes in (("kernel", kernel), ("stride", stride)):
            if len(sizes) != axes or not axes or not all(_is_size(s, 1) for s in sizes):
                raise ValueError(
                    f"Argument `{name}` of Convolution must be integers of at least 1, one per "
                    f"axis, but is {sizes} for a kernel {kernel}; give e.g. 3 or (3, 3)."
                )
        padding = _checked_padding(self.padding, axes)
        if padding == "same" and set(stride) == {1}:
            # Independent of the map, so that maps that do the same are equal.
            padding = tuple(((k - 1) // 2, k // 2) for k in kernel)
        object.__setattr__(self, "padding", padding)

    def weight_shape(self, source: Shape) -> Shape:
        """The kernel's shape."""
        self.output_shape(source)
        return self.kernel

    def output_shape(self, source: Shape) -> Shape:
        """Where the kernel fits, every `stride`.

        Args:
            source: shape of the source's feature map.

        Returns:
            The shape of Z_e.

        Raises:
            ValueError: if the source has another number of axes, or is smaller than the kernel.
        """
        if len(source) != len(self.kernel):
            raise ValueError(
                f"a kernel {self.kernel} needs a feature map with {len(self.kernel)} axes, but the "
                f"source has shape {source} (channels are copies, not an axis)"
            )
        padded = [n + sum(p) for n, p in zip(source, self._pads(source), strict=True)]
        if any(k > n for k, n in zip(self.kernel, padded, strict=True)):
            raise ValueError(
                f"a kernel {self.kernel} is larger than the padded map {tuple(padded)}; take a "
                "smaller kernel or pad more"
            )
        sizes = zip(padded, self.kernel, self._strides, strict=True)
        return tuple((n - k) // s + 1 for n, k, s in sizes)

    def __call__(self, w, y):
        """The cross-correlation of y with w."""
        shape, strides = self.output_shape(y.shape), self._strides
        padded = jnp.pad(y, self._pads(y.shape))
        total = jnp.zeros(shape, jnp.result_type(w, y))
        for tap in itertools.product(*map(range, self.kernel)):
            last = [i + s * (n - 1) + 1 for i, s, n in zip(tap, strides, shape, strict=True)]
            total = total + w[tap] * lax.slice(padded, tap, last, strides)
        return total

    def geometry(self, source: Shape) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Strides, and zeros before and after, per axis of a source of this shape."""
        return self._strides, self._pads(source)

    def fan_in(self, source: Shape) -> int:
        """The number of entries of the kernel."""
        return math.prod(self.kernel)

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * len(self.kernel)

    def _pads(self, source: Shape) -> tuple[tuple[int, int], ...]:
        if isinstance(self.padding, str):
            pads = lax.padtype_to_pads(source, self.kernel, self._strides, self.padding.upper())
            return tuple((int(before), int(after)) for before, after in pads)
        return self.padding if isinstance(self.padding, tuple) else ()

    def __str__(self) -> str:
        """The formula."""
        return "w ⋆ y"


def _is_size(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _checked_padding(padding: Padding, axes: int) -> Padding:
    if padding == "same":
        return padding
    padding = 0 if padding == "valid" else padding
    pairs = ((padding, padding),) * axes if isinstance(padding, int) else padding
    if not isinstance(pairs, str):
        pairs = tuple(tuple(pair) for pair in pairs)
        if len(pairs) == axes and all(
            len(p) == 2 and all(_is_size(n, 0) for n in p) for p in pairs
        ):
            return tuple((before, after) for before, after in pairs)
    raise ValueError(
        "Argument `padding` of Convolution must be 'same', 'valid', a number of zeros, or a pair "
        f"of them per axis, but is {padding!r}; give e.g. 'same' or 1."
    )
