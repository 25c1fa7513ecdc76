"""What a model may declare of itself: abstract classes to inherit from, or to register with.

Nothing is guessed from names: a model of somebody else may have a field called `batch` or `smooth`
that means something else. A class of one's own inherits from these, beside `equinox.Module` or
alone; one that cannot be changed is registered, `AbstractSamplewise.register(Theirs)`, once it has
the methods.
"""

import abc

from jaxtyping import Array, PyTree


class AbstractSamplewise(abc.ABC):
    """A model F that takes many samples at once, each by itself: batch(xs)[i] = F(xs[i]).

    So its samples may be cut into chunks and spread over devices. A model whose outputs depend on
    what else is in the batch, as batch normalisation in training mode, is no such model.
    """

    @abc.abstractmethod
    def batch(self, xs: PyTree[Array]) -> PyTree[Array]:
        """The outputs (samples, ...) for inputs (samples, ...)."""

    @property
    def samples_per_pass(self) -> int | None:
        """How many samples at a time are fastest; None for all."""
        return None


class AbstractPadded(abc.ABC):
    """A model some of whose numbers never count: its output does not depend on them.

    They take no part in the flow, in norms, or in the number of parameters.
    """

    @abc.abstractmethod
    def live(self) -> PyTree:
        """The model with boolean arrays for its floating-point ones: True where a number counts."""


class AbstractSmoothness(abc.ABC):
    """A model, or an objective, that knows whether it makes a twice differentiable L of parameters.

    What an objective says counts before what a model does.
    """

    @property
    @abc.abstractmethod
    def smooth(self) -> bool:
        """Whether it is; `solver="auto"` then takes a solver that needs it."""
