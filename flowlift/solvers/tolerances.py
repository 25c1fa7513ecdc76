"""How a solver takes over the tolerances of its controller, and refuses a controller not its own.

`diffrax.diffeqsolve` hands `rtol`, `atol` and `norm` of an adaptive controller to the root finder
of an implicit solver, and to no other. Solvers here have equations of their own to solve (or
chains to end), so that they are implicit in this sense, with `Tolerances` as the root finder.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import Array, Float, PyTree


class Judge(eqx.Module):
    """The norm of a `WorkController`, by which a solver knows it.

    Attributes:
        inner: the controller that judges steps.
        norm: its norm.
    """

    inner: diffrax.AbstractStepSizeController
    norm: Callable[[PyTree], Any]

    def __call__(self, error: PyTree) -> Any:
        """The norm."""
        return self.norm(error)


class Tolerances(eqx.Module):
    """What diffrax hands over; before that, its mark for "not yet".

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance, of all or, as arrays, of each coordinate.
        norm: a `Judge` if the controller is one of ours.
    """

    rtol: Float[Array, ""] | float
    atol: PyTree[Float[Array, "..."] | float]
    norm: Callable[[PyTree], Any]

    @staticmethod
    def of(controller) -> "Tolerances":
        """Those of a controller, for a solver that is used without `diffeqsolve`.

        Args:
            controller: a `WorkController`.

        Returns:
            The tolerances.
        """
        return Tolerances(controller.rtol, controller.atol, controller.norm)


def not_yet() -> Any:
    """`Tolerances` that `diffeqsolve` fills."""
    return diffrax.with_stepsize_controller_tols(Tolerances)()  # pyright: ignore[reportArgumentType]


def check_controller(solver: Any, judge: type) -> None:
    """Refuse a controller that does not understand the solver's reports.

    Args:
        solver: the solver, its `root_finder` filled by diffrax.
        judge: the kind of controller that judges its steps.

    Raises:
        ValueError: for another one.
    """
    norm = solver.root_finder.norm
    if not (isinstance(norm, Judge) and isinstance(norm.inner, judge)):
        name = type(solver).__name__
        raise ValueError(
            f"Argument `stepsize_controller` must be one that understands what {name} reports of "
            f"its steps, but is another; give {name}.default_controller(rtol, atol)."
        )
