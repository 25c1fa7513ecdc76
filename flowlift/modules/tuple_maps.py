"""Vertex maps that treat the entries of a tuple differently: residuals, gates, attention."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..numbers import plain_fields
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


@dataclasses.dataclass(frozen=True)
class Residual(AbstractVertexMap):
    """sigma_v(z_1, z_2, ..., z_m) = z_1 + phi(z_2 + ... + z_m): the first edge is the skip.

    He et al., Deep residual learning, CVPR 2016; the skip is usually an `Identity` edge.

    Attributes:
        function: phi, as for `Pointwise`.
        kinked: as for `Pointwise`.
    """

    function: str | Callable = "identity"
    kinked: bool = False

    def __post_init__(self):
        check_function(self.function, type(self).__name__)

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The common shape of the pre-activations.

        Args:
            sources: their shapes.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if they differ or are fewer than two.
        """
        if len(sources) < 2:
            raise ValueError(f"a residual sum needs a skip and another edge, but gets {sources}")
        return common_shape(sources, "a residual sum")

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """The skip plus phi of the sum of the others."""
        return zs[0] + resolve_function(self.function)(total(zs[1:]))

    @property
    def smooth(self) -> bool:
        """As phi is."""
        return is_smooth(self.function, self.kinked)

    def __str__(self) -> str:
        """The formula."""
        return f"skip + {function_name(self.function, 'sum')}"


@plain_fields
@dataclasses.dataclass(frozen=True)
class Gated(AbstractVertexMap):
    """sigma_v(z_1, ..., z_m) = s(z_1 + ... + z_g) phi(z_{g+1} + ... + z_m), s(z) = 1/(1 + e^-z).

    The first g edges open and close the gate, the others carry the content: the gated linear unit
    (Dauphin et al., ICML 2017) for phi = identity.

    Attributes:
        gates: g.
        function: phi, as for `Pointwise`.
        kinked: as for `Pointwise`.
    """

    gates: int = 1
    function: str | Callable = "identity"
    kinked: bool = False

    def __post_init__(self):
        """Refuse an unknown function name, and a gate without edges.

        Raises:
            ValueError: in either case.
        """
        check_function(self.function, type(self).__name__)
        if not isinstance(self.gates, int) or self.gates < 1:
            raise ValueError(
                f"Argument `gates` of Gated must be an integer of at least 1, but is "
                f"{self.gates!r}; give the number of edges that feed the gate."
            )

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """The common shape of the pre-activations.

        Args:
            sources: their shapes.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if they differ, or if none is left for the content.
        """
        if len(sources) <= self.gates:
            raise ValueError(
                f"a gate of {self.gates} edges needs at least one more for the content, but the "
                f"vertex has {len(sources)} in all"
            )
        return common_shape(sources, "a gated sum")

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """The logistic function of the gate's sum, times phi of the others' sum."""
        gate = jax.nn.sigmoid(total(zs[: self.gates]))
        return gate * resolve_function(self.function)(total(zs[self.gates :]))

    @property
    def smooth(self) -> bool:
        """As phi is."""
        return is_smooth(self.function, self.kinked)

    def __str__(self) -> str:
        """The formula."""
        return f"gate × {function_name(self.function, 'sum')}"


@dataclasses.dataclass(frozen=True)
class SoftmaxAttention(AbstractVertexMap):
    """sigma_v(q, k, s) = softmax(q k^T / sqrt(r)) s, for q (n, r), k (n', r) and s (n', c).

    Theory, section 1 [paper: a map of the tuple, not of a sum]; the scale is that of Vaswani et
    al., NeurIPS 2017. A copy of the vertex is a head. The three edges are declared in this order.
    """

    def output_shape(self, sources: tuple[Shape, ...]) -> Shape:
        """(n, c).

        Args:
            sources: shapes of q, k and s.

        Returns:
            The shape of Y_v.

        Raises:
            ValueError: if there are not three, or if they do not fit together.
        """
        if len(sources) != 3:
            raise ValueError(
                f"attention needs three edges, q, k and s in this order, but has {len(sources)}"
            )
        q, k, s = sources
        if not len(q) == len(k) == len(s) == 2 or q[1] != k[1] or k[0] != s[0]:
            raise ValueError(
                "attention needs q (n, r), k (n', r) and s (n', c) with equal channels of q and "
                f"k and equal tokens of k and s, but gets {q}, {k} and {s}"
            )
        return (q[0], s[1])

    def batched(self, zs: tuple[jax.Array, ...]) -> jax.Array:
        """Attention of every copy and sample."""
        # The small arrays are scaled, not the weights (tokens x tokens).
        q, k, s = zs
        logits = jnp.einsum("...tr,...ur->...tu", q * q.shape[-1] ** -0.5, k)
        # A shift changes nothing, nor does any of its derivatives.
        largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        beside = jnp.concatenate([s, jnp.ones_like(s[..., :1])], axis=-1)
        sums = jnp.einsum("...tu,...uc->...tc", jnp.exp(logits - largest), beside)
        return sums[..., :-1] / sums[..., -1:]

    @property
    def smooth(self) -> bool:
        """True."""
        return True

    def __str__(self) -> str:
        """The formula."""
        return "softmax(qkᵀ/√r) s"
