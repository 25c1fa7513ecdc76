"""Weight laws: i.i.d. weights over one base edge (theory, section 3).

Independence and full support are the paper's [paper]; the Gaussian and its O(1) scale, not divided
by sqrt(width) because the in-degree is O(1), are ours [choice].
"""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np

from ..modules import Shape
from ..numbers import real, whole
from ..registry import register


class AbstractWeightLaw(abc.ABC):
    """A law of i.i.d. weights in W_e."""

    # What a sentence of a page says of it, its fields in braces; empty: its name and fields.
    phrase: ClassVar[str] = ""

    @abc.abstractmethod
    def draw(
        self, count: int, shape: Shape, fan_in: int, n_sources: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Weights (count, *shape), float64, given the edge map's fan-in and the source copies."""


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class Gaussian(AbstractWeightLaw):
    """N(0, scale^2), the default of hidden edges.

    Attributes:
        scale: standard deviation.
    """

    phrase: ClassVar[str] = "normal weights of deviation {scale:g}"

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", _scale(self.scale, type(self).__name__))

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """scale times standard normals."""
        return self.scale * rng.standard_normal((count, *shape))


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class GaussianFanIn(AbstractWeightLaw):
    """N(0, scale^2 / fan-in), the fan-in of the edge map itself (d for an inner product on R^d).

    It keeps pre-activations O(scale) for vector inputs of any dimension.

    Attributes:
        scale: standard deviation of one pre-activation for inputs of unit variance.
    """

    phrase: ClassVar[str] = "normal weights of deviation {scale:g} / √(fan-in)"

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", _scale(self.scale, type(self).__name__))

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """scale / sqrt(fan-in) times standard normals."""
        return self.scale / math.sqrt(fan_in) * rng.standard_normal((count, *shape))


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class GaussianWidth(AbstractWeightLaw):
    """N(0, scale^2 / n_u): the random read-out of theory, section 3.

    Attributes:
        scale: standard deviation times sqrt(n_u).
    """

    phrase: ClassVar[str] = "normal weights of deviation {scale:g} / √(sources)"

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", _scale(self.scale, type(self).__name__))

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """scale / sqrt(n_u) times standard normals."""
        return self.scale / math.sqrt(n_sources) * rng.standard_normal((count, *shape))


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class LecunNormal(AbstractWeightLaw):
    """N(0, scale^2 / (n_u x fan-in)), the fan-in of the edge map (LeCun et al., 1998).

    It keeps pre-activations O(scale) in a complete lift of any width: the law of dense controls.

    Attributes:
        scale: standard deviation of one pre-activation for activations of unit variance.
    """

    phrase: ClassVar[str] = "normal weights of deviation {scale:g} / √(sources × fan-in)"

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", _scale(self.scale, type(self).__name__))

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """scale / sqrt(n_u x fan-in) times standard normals."""
        return self.scale / math.sqrt(n_sources * fan_in) * rng.standard_normal((count, *shape))


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class Uniform(AbstractWeightLaw):
    """Uniform on [-bound, bound]. Its support is not full: the theorem's assumption fails.

    Attributes:
        bound: half the length of the interval.
    """

    phrase: ClassVar[str] = "weights uniform on [-{bound:g}, {bound:g}]"

    bound: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "bound", _scale(self.bound, type(self).__name__))

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """Uniform draws."""
        return rng.uniform(-self.bound, self.bound, (count, *shape))


@register("weight_law")
@dataclasses.dataclass(frozen=True)
class Zero(AbstractWeightLaw):
    """All weights zero, the default of read-outs (theory, section 3)."""

    phrase: ClassVar[str] = "weights 0"

    def draw(self, count, shape, fan_in, n_sources, rng) -> np.ndarray:
        """Zeros; the stream is not used."""
        return np.zeros((count, *shape))


def _scale(value: float, owner: str) -> float:
    """The number as Python's own: an integer stays one, as identities of runs hold it."""
    number = whole(value)
    number = real(value) if number is None else number
    if number is None or not 0 < number < math.inf:
        raise ValueError(
            f"Argument of {owner} must be a positive finite number, but is {value!r}; "
            "give the scale, or use Zero()."
        )
    return number
