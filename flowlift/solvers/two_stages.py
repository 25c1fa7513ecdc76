"""Explicit pairs that evaluate the field where a step ends, before the step is accepted.

Heun's, Ralston's and the midpoint method of diffrax evaluate it there with the next step, when a
candidate outside of the domain of L can no longer be rejected. The same evaluation made before
costs nothing: it is the first stage of the next step.
"""

from typing import Any, ClassVar, cast

import diffrax
import numpy as np


def _with_end(solver: Any) -> diffrax.ButcherTableau:
    """A tableau with y_1 as a further stage: its last stage is the first of the next step."""
    given = solver.tableau
    return diffrax.ButcherTableau(
        a_lower=(*given.a_lower, np.asarray(given.b_sol)),
        b_sol=np.append(given.b_sol, 0.0),
        b_error=np.append(given.b_error, 0.0),
        c=np.append(given.c, 1.0),
    )


class Heun(diffrax.Heun):
    """Heun's method: steps and numbers of diffrax's, one evaluation earlier."""

    tableau: ClassVar[diffrax.ButcherTableau] = _with_end(diffrax.Heun)


class Midpoint(diffrax.Midpoint):
    """The midpoint method: steps and numbers of diffrax's, one evaluation earlier."""

    tableau: ClassVar[diffrax.ButcherTableau] = _with_end(diffrax.Midpoint)


class Ralston(diffrax.Ralston):
    """Ralston's method: steps and numbers of diffrax's, one evaluation earlier."""

    tableau: ClassVar[diffrax.ButcherTableau] = _with_end(diffrax.Ralston)


TWO_STAGES: dict[type, type[diffrax.AbstractERK]] = {
    diffrax.Heun: Heun,
    diffrax.Midpoint: Midpoint,
    diffrax.Ralston: Ralston,
}


def seeing_its_end(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The same method, judging a step by the field at its end too, at the same cost.

    Args:
        solver: any solver.

    Returns:
        Another instance for the classes above; all others as they are: those whose last stage is
        the first of the next step see it, and what a class of one's own does is its own affair.
    """
    kind = TWO_STAGES.get(type(solver))
    return solver if kind is None else kind(scan_kind=cast(Any, solver).scan_kind)
