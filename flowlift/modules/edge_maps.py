"""Edge maps M_e : W_e x Y_u -> Z_e: what one edge does with its weight and its source."""

import abc
import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

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


@dataclasses.dataclass(frozen=True)
class InnerProduct(AbstractEdgeMap):
    """M_e(w, y) = <w, y> on the last axis: W_e = R^d, Y_u = R^{... x d}, Z_e = R^{...}."""

    def weight_shape(self, source: Shape) -> Shape:
        """(d,), the length of the last axis of the source."""
        return _last_axis(source, "InnerProduct")

    def output_shape(self, source: Shape) -> Shape:
        """The source's shape without its last axis."""
        _last_axis(source, "InnerProduct")
        return source[:-1]

    def __call__(self, w, y):
        """The contraction of the last axis of y with w."""
        return y @ w

    def __str__(self) -> str:
        """The formula."""
        return "⟨w, y⟩"


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
        if not isinstance(self.rows, int) or self.rows < 1:
            raise ValueError(
                f"Argument `rows` of Matrix must be a positive integer, but is {self.rows!r}; "
                "give the dimension of the pre-activation."
            )

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
class Bias(AbstractEdgeMap):
    """M_e(w, y) = w y for a constant source vertex (Y_u = R): W_e = Z_e = R^shape.

    Theory, section 1 [paper]: weights live on edges only, so a bias is an edge from a constant.
    """

    shape: Shape = ()

    def weight_shape(self, source: Shape) -> Shape:
        """The declared shape."""
        return self.output_shape(source)

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
        return w * y

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


def _last_axis(source: Shape, name: str) -> Shape:
    if not source:
        raise ValueError(
            f"{name} needs a source with at least one axis, but the source is scalar; "
            "use Scalar instead"
        )
    return source[-1:]
