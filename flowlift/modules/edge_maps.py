"""Edge maps M_e : W_e x Y_u -> Z_e: what one edge does with its weight and its source."""

import abc
import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..numbers import plain_fields

Shape = tuple[int, ...]


class AbstractEdgeMap(abc.ABC):
    """The map M_e of an edge (theory, section 1 [paper]): shapes of W_e and Z_e, and M_e itself.

    A map is written for **one** edge and **one** sample; lifts batch it over edges and samples.
    """

    @abc.abstractmethod
    def weight_shape(self, source: Shape) -> Shape:
        """Shape of W_e when the source's activation has shape `source`; ValueError if it cannot."""

    @abc.abstractmethod
    def output_shape(self, source: Shape) -> Shape:
        """Shape of Z_e when the source's activation has shape `source`; ValueError if it cannot."""

    @abc.abstractmethod
    def __call__(self, w: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """The pre-activation M_e(w, y) of one edge for one sample."""

    def fan_in(self, source: Shape) -> int:
        """How many products one entry of Z_e sums: what `GaussianFanIn` divides the variance by."""
        return math.prod(self.weight_shape(source)) // max(1, math.prod(self._rows(source)))

    def _rows(self, source: Shape) -> Shape:
        return ()


@dataclasses.dataclass(frozen=True)
class Scalar(AbstractEdgeMap):
    """M_e(w, y) = w y with W_e = R, for an activation space of any shape: Z_e = Y_u."""

    def weight_shape(self, source: Shape) -> Shape:
        """Empty shape: one number per edge."""
        return ()

    def output_shape(self, source: Shape) -> Shape:
        """The source's own shape."""
        return source

    def __call__(self, w, y):
        """The product w y."""
        return w * y

    def __str__(self) -> str:
        """The formula."""
        return "w y"


@plain_fields
@dataclasses.dataclass(frozen=True)
class InnerProduct(AbstractEdgeMap):
    """M_e(w, y) = <w, y> on the last axes: W_e = R^d, Y_u = R^{... x d}, Z_e = R^{...}.

    With one axis it is the position-wise inner product of tokens; with all axes of a feature map,
    the read-out of the flattened map.

    Attributes:
        axes: how many of the last axes are contracted; d is then their shape.
    """

    axes: int = 1

    def __post_init__(self):
        """Refuse a number of axes below one.

        Raises:
            ValueError: if `axes` is not a positive integer.
        """
        _check_count("axes", self.axes, "InnerProduct", "how many axes to contract")

    def weight_shape(self, source: Shape) -> Shape:
        """d, the shape of the last axes of the source."""
        return self._contracted(source)

    def output_shape(self, source: Shape) -> Shape:
        """The source's shape without its last axes."""
        return source[: len(source) - len(self._contracted(source))]

    def __call__(self, w, y):
        """The contraction of the last axes of y with w."""
        return y @ w if self.axes == 1 else jnp.tensordot(y, w, self.axes)

    def _contracted(self, source: Shape) -> Shape:
        _last_axis(source, "InnerProduct")
        if len(source) < self.axes:
            raise ValueError(
                f"InnerProduct of {self.axes} axes needs as many in the source, but it has the "
                f"shape {source}"
            )
        return source[-self.axes :]

    def __str__(self) -> str:
        """The formula."""
        return "⟨w, y⟩"


@plain_fields
@dataclasses.dataclass(frozen=True)
class Matrix(AbstractEdgeMap):
    """M_e(W, y) = W y on the last axis: W_e = R^{m x d}, Y_u = R^{... x d}, Z_e = R^{... x m}.

    With one leading axis it is the position-wise linear map of tokens.
    """

    rows: int

    def __post_init__(self):
        """Refuse a row count below one.

        Raises:
            ValueError: if `rows` is not a positive integer.
        """
        _check_count("rows", self.rows, "Matrix", "the dimension of the pre-activation")

    def weight_shape(self, source: Shape) -> Shape:
        """(m, d)."""
        return (self.rows, *_last_axis(source, "Matrix"))

    def output_shape(self, source: Shape) -> Shape:
        """The source's shape with its last axis replaced by m."""
        _last_axis(source, "Matrix")
        return (*source[:-1], self.rows)

    def __call__(self, w, y):
        """The product of the last axis of y with W^T."""
        return jnp.einsum("md,...d->...m", w, y)

    def _rows(self, source: Shape) -> Shape:
        return (self.rows,)

    def __str__(self) -> str:
        """The formula."""
        return "W y"


@dataclasses.dataclass(frozen=True)
class Diagonal(AbstractEdgeMap):
    """M_e(w, y) = w * y entry by entry on the last axis: W_e = R^d, Y_u = Z_e = R^{... x d}."""

    def weight_shape(self, source: Shape) -> Shape:
        """(d,), the length of the last axis of the source."""
        return _last_axis(source, "Diagonal")

    def output_shape(self, source: Shape) -> Shape:
        """The source's own shape."""
        _last_axis(source, "Diagonal")
        return source

    def __call__(self, w, y):
        """The last axis of y scaled by w."""
        return w * y

    def fan_in(self, source: Shape) -> int:
        """One: every entry of Z_e is one product."""
        return 1

    def __str__(self) -> str:
        """The formula."""
        return "w ⊙ y"


@plain_fields
@dataclasses.dataclass(frozen=True)
class LowRank(AbstractEdgeMap):
    """M_e((U, V), y) = U^T V y on the last axis: a matrix R^d -> R^m of rank at most r.

    W_e = R^{r x (m + d)} holds U (r x m) and V (r x d) side by side, r (m + d) numbers in place of
    m d; the map is quadratic in the weights.

    Attributes:
        rows: m.
        rank: r.
    """

    rows: int
    rank: int = 1

    def __post_init__(self):
        """Refuse sizes below one.

        Raises:
            ValueError: if `rows` or `rank` is not a positive integer.
        """
        _check_count("rows", self.rows, "LowRank", "the dimension of the pre-activation")
        _check_count("rank", self.rank, "LowRank", "the number of rank-one terms")

    def weight_shape(self, source: Shape) -> Shape:
        """(r, m + d)."""
        return (self.rank, self.rows + _last_axis(source, "LowRank")[0])

    def output_shape(self, source: Shape) -> Shape:
        """The source's shape with its last axis replaced by m."""
        _last_axis(source, "LowRank")
        return (*source[:-1], self.rows)

    def __call__(self, w, y):
        """The product of the last axis of y with V^T, then U."""
        return (y @ w[:, self.rows :].T) @ w[:, : self.rows]

    def fan_in(self, source: Shape) -> int:
        """The integer nearest sqrt(r d).

        An entry of Z_e sums r d products of **two** weights; `GaussianFanIn` then gives it the
        variance of a sum of d products with one weight of variance 1/d.

        Args:
            source: shape of the source's activation.

        Returns:
            That integer, at least 1.
        """
        return max(1, round(math.sqrt(self.rank * _last_axis(source, "LowRank")[0])))

    def __str__(self) -> str:
        """The formula."""
        return "UᵀV y"


@plain_fields
@dataclasses.dataclass(frozen=True)
class At(AbstractEdgeMap):
    """M_e(w, y) = M(w, y_i): another edge map, of one entry of the source's first axis.

    It lets an edge read one token, or one time step, of a sequence.

    Attributes:
        index: i, from 0.
        map: M.
    """

    index: int
    map: AbstractEdgeMap

    def weight_shape(self, source: Shape) -> Shape:
        """As M says of one entry."""
        return self.map.weight_shape(self._entry(source))

    def output_shape(self, source: Shape) -> Shape:
        """As M says of one entry."""
        return self.map.output_shape(self._entry(source))

    def __call__(self, w, y):
        """M of the entry."""
        return self.map(w, y[self.index])

    def fan_in(self, source: Shape) -> int:
        """As M says of one entry."""
        return self.map.fan_in(self._entry(source))

    def _entry(self, source: Shape) -> Shape:
        if not source or not 0 <= self.index < source[0]:
            raise ValueError(f"At reads entry {self.index} of the first axis, which {source} lacks")
        return source[1:]

    def __str__(self) -> str:
        """The formula of M, and the index."""
        return f"{self.map} [{self.index}]"


@plain_fields
@dataclasses.dataclass(frozen=True)
class Bias(AbstractEdgeMap):
    """M_e(w, y) = w y for a constant source vertex (Y_u = R): Z_e = R^shape.

    Theory, section 1 [paper]: weights live on edges only, so a bias is an edge from a constant.

    Attributes:
        shape: of Z_e.
        weights: shape of W_e, broadcast to `shape`: () for one number per feature map, (d,) for
            one vector for all tokens; None for a number of its own per entry.
    """

    shape: Shape = ()
    weights: Shape | None = None

    def __post_init__(self):
        """Refuse weights that do not broadcast.

        Raises:
            ValueError: if `weights` does not broadcast to `shape`.
        """
        try:
            fits = np.broadcast_shapes(self.shape, self.weights or ()) == tuple(self.shape)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"Argument `weights` of Bias must broadcast to the shape {self.shape}, but is "
                f"{self.weights}; give () for one number, or None for one per entry."
            )

    def weight_shape(self, source: Shape) -> Shape:
        """The declared shape of the weights."""
        shape = self.output_shape(source)
        return shape if self.weights is None else self.weights

    def output_shape(self, source: Shape) -> Shape:
        """The declared shape.

        Args:
            source: shape of the constant's activation space.

        Returns:
            The shape of Z_e.

        Raises:
            ValueError: if the source is not scalar.
        """
        if source != ():
            raise ValueError(f"Bias needs a scalar source of shape (), but the source has {source}")
        return self.shape

    def __call__(self, w, y):
        """The product of the weight array and the constant."""
        return jnp.broadcast_to(w * y, self.shape)

    def fan_in(self, source: Shape) -> int:
        """One: every entry of Z_e has its own weight."""
        return 1

    def __str__(self) -> str:
        """The formula."""
        return "bias"


@dataclasses.dataclass(frozen=True)
class Identity(AbstractEdgeMap):
    """M_e(w, y) = y with the trivial weight space R^0: a residual connection, Z_e = Y_u."""

    def weight_shape(self, source: Shape) -> Shape:
        """(0,): nothing to train."""
        return (0,)

    def output_shape(self, source: Shape) -> Shape:
        """The source's own shape."""
        return source

    def __call__(self, w, y):
        """The activation itself."""
        return y

    def fan_in(self, source: Shape) -> int:
        """One."""
        return 1

    def __str__(self) -> str:
        """The formula."""
        return "y"


def _check_count(name: str, value: int, owner: str, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` of {owner} must be a positive integer, but is {value!r}; "
            f"give {meaning}."
        )


def _last_axis(source: Shape, name: str) -> Shape:
    if not source:
        raise ValueError(
            f"{name} needs a source with at least one axis, but the source is scalar; "
            "use Scalar instead"
        )
    return source[-1:]
