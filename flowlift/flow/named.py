"""Solvers by name. A new one is a function registered in its own file, in this room or a user's."""

from collections.abc import Callable

import diffrax

from ..registry import known, register
from ..solvers import BDF, RKC2, ExpRosenbrock


@register("solver")
def tsit5() -> diffrax.AbstractSolver:
    """Tsitouras' explicit Runge-Kutta method 5(4): for flows that are not stiff."""
    return diffrax.Tsit5()


@register("solver")
def dopri8() -> diffrax.AbstractSolver:
    """Dormand-Prince 8(7), explicit: for tight tolerances on smooth flows that are not stiff."""
    return diffrax.Dopri8()


@register("solver")
def kvaerno5() -> diffrax.AbstractSolver:
    """Kvaerno's ESDIRK 5(4) of diffrax, with dense Jacobians: P^2 numbers."""
    return diffrax.Kvaerno5()


@register("solver")
def bdf() -> diffrax.AbstractSolver:
    """Backward differentiation with a low-rank model of the Hessian: for stiff, smooth flows."""
    return BDF()


@register("solver", "dense-bdf")
def dense_bdf() -> diffrax.AbstractSolver:
    """Backward differentiation with the dense Hessian: P^2 numbers, for few parameters."""
    return BDF(dense=True)


@register("solver")
def rkc2() -> diffrax.AbstractSolver:
    """Runge-Kutta-Chebyshev, second order, stabilised explicit: for mildly stiff flows."""
    return RKC2()


@register("solver")
def exprb() -> diffrax.AbstractSolver:
    """Exponential Rosenbrock 5(4) in Krylov spaces: for stiff, smooth flows."""
    return ExpRosenbrock()


SOLVERS: dict[str, Callable[[], diffrax.AbstractSolver]] = {
    "tsit5": tsit5,
    "dopri8": dopri8,
    "kvaerno5": kvaerno5,
    "bdf": bdf,
    "dense-bdf": dense_bdf,
    "rkc2": rkc2,
    "exprb": exprb,
}


def solver_named(name: str) -> diffrax.AbstractSolver | None:
    """The solver of a name, None if there is none: one of `SOLVERS`, or registered since."""
    make = SOLVERS.get(name)
    if make is None and (entry := known("solver").get(name)) is not None:
        make = entry.function
    return make() if make is not None else None
