"""Solvers by name: the diffrax solver, its step-size controller, and what an attempt costs."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from ..attributes import read_plainly
from ..solvers import (
    BDF,
    RKC2,
    Counting,
    ExpRosenbrock,
    Halt,
    WorkController,
    evaluation,
    live_scale,
)
from ..solvers.parts import Momentum
from ..solvers.rounding import UntilRounding
from ..solvers.tolerances import Tolerances
from ..solvers.two_stages import seeing_its_end
from .dynamics.base import AbstractDynamics
from .limits import any_holds
from .named import SOLVERS, solver_named
from .outcome import Outcome
from .problem import Flat, Problem, Quadratures, State, field


@read_plainly
class Method(eqx.Module):
    """A solver ready to run. Tolerances are arrays: changing them compiles nothing.

    Attributes:
        solver: the diffrax solver.
        controller: its controller, which holds the true counts of work.
        term: the field.
        name: the solver's name.
    """

    solver: diffrax.AbstractSolver
    controller: WorkController
    term: diffrax.ODETerm
    name: str = eqx.field(static=True)


# These count their own work, and take the predictive controller.
_REPORTING = (RKC2, ExpRosenbrock)


def theta_of(state: State) -> Flat:
    """Theta, the part of the state that the field depends on."""
    return state[0]


def _velocity_of(state: State) -> Flat:
    """The first of the vectors that a dynamics carries."""
    return state[2][0]


def _friction_of(state: State, args: tuple[Problem, object]) -> Float[Array, ""]:
    """g where the flow stands."""
    dynamics = args[0].dynamics
    return jnp.asarray(dynamics.damping(dynamics.named(state[2])), state[0].dtype)


MOMENTUM = Momentum(_velocity_of, _friction_of)
AUTO = "auto"


def resolve_method(
    solver: str | diffrax.AbstractSolver, rtol: float, atol: float, precision: str, problem: Problem
) -> Method:
    """The method meant by a name or a diffrax solver.

    Args:
        solver: a name from `SOLVERS`, or a diffrax solver with an error estimate.
        rtol: relative tolerance.
        atol: absolute tolerance.
        precision: "float64" or "float32".
        problem: the problem: which coordinates count in norms.

    Returns:
        The method.

    Raises:
        ValueError: for an unknown name, or a solver without error estimate.
    """
    live = problem.live
    check_served(problem.dynamics, solver)
    atol = max(atol, least_atol(problem, precision))
    rtol_array, number = (jnp.asarray(x, precision) for x in (rtol, atol))
    # In phi, where rates are not 1: as an array it broadcasts with the integrals, whose errors no
    # norm looks at.
    atol_array = problem.absolute(number)
    built = _build(solver, rtol_array, atol_array, live, len(problem.dynamics.vectors))
    _check_own_tolerances(built, problem)
    if isinstance(built, BDF):
        if problem.dynamics.second_order:
            built = dataclasses.replace(built, momentum=MOMENTUM)
        return _bdf_method(built, rtol_array, atol_array, live, solver)
    theta_norm = ThetaNorm(live, len(problem.dynamics.vectors))
    control = diffrax.PIDController(rtol=rtol_array, atol=atol_array, norm=theta_norm)
    name, ours = _name(solver), {"until": any_holds, "select": theta_of}
    if isinstance(built, _REPORTING):
        # Such a step may cross a stiff layer exactly, where the integrals are not smooth.
        norm = StateNorm(theta_norm) if isinstance(built, ExpRosenbrock) else theta_norm
        if problem.coordinates.roots is not None:
            more = (number,) * len(problem.dynamics.numbers)
            atol_array = (atol_array, Quadratures(number, number), *((more,) if more else ()))
        controller = built.default_controller(rtol_array, atol_array, norm, **ours)
        built = _own(built, controller, live)
        return Method(built, controller, diffrax.ODETerm(cast(Callable, field)), name)
    if issubclass(type(built), diffrax.AbstractERK):
        tableau = cast(diffrax.ButcherTableau, cast(Any, built).tableau)
        # One evaluation is saved where the last stage of a step is the first of the next.
        evaluations = tableau.num_stages - tableau.fsal
        counts = {"evaluations": evaluations, "until_accepted": int(tableau.fsal), "startup": 2}
        controller = cast(Any, WorkController)(control, **counts, **ours)
        return Method(built, controller, diffrax.ODETerm(cast(Callable, field)), name)
    # The start is counted with the start, the steps with the steps: nothing is known beforehand.
    controller = cast(Any, WorkController)(control, **ours)
    term = diffrax.ODETerm(cast(Callable, marked_field))
    return Method(Counting(_plain_loops(built)), controller, term, name)


def _check_own_tolerances(solver: diffrax.AbstractSolver, problem: Problem) -> None:
    """Refuse tolerances that are not those of theta."""
    own = getattr(solver, "atol", None) is not None or getattr(solver, "rtol", None) is not None
    if own and problem.coordinates.roots is not None:
        raise ValueError(
            f"Argument `solver` must leave its tolerances to `solve` where `rates` are given, but "
            f"{type(solver).__name__} has its own; give `rtol` and `atol` to `solve`."
        )


def serves_dynamics(dynamics: AbstractDynamics, solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver serves a dynamics.

    Args:
        dynamics: how theta moves.
        solver: the solver.

    Returns:
        The verdict.
    """
    if dynamics.plain or not isinstance(solver, _OWN):
        return True
    if isinstance(solver, BDF):
        return dynamics.symmetric or dynamics.second_order
    # The exponential method knows the Jacobian of a field of theta alone.
    return dynamics.symmetric and isinstance(solver, RKC2)


def check_served(dynamics: AbstractDynamics, solver: str | diffrax.AbstractSolver) -> None:
    """Refuse a solver that does not serve a dynamics.

    Args:
        dynamics: how theta moves.
        solver: the solver, or its name; "auto" is no solver yet.

    Raises:
        ValueError: if it does not.
    """
    built = solver_named(solver) if isinstance(solver, str) else solver
    if built is None or serves_dynamics(dynamics, built):
        return
    raise ValueError(
        f"Argument `solver` must be an explicit or stock implicit one for {dynamics.title}, whose "
        f"field is not that of a plain flow with a symmetric Jacobian, but is {_name(solver)!r}; "
        "take 'auto', 'tsit5' or 'kvaerno5'."
    )


def least_atol(problem: Problem, precision: str) -> float:
    """The least absolute tolerance that a problem can have.

    Padding is zero: without an absolute tolerance its error would be 0 / 0. So far above the least
    normal number that no scale makes it subnormal.

    Args:
        problem: the problem.
        precision: "float64" or "float32".

    Returns:
        The number; 0 where nothing is padded.
    """
    return 0.0 if problem.live is None else 1e6 * float(np.finfo(precision).tiny)


def _plain_loops(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """A solver without the checkpoints in its loops that only reverse differentiation needs."""
    if getattr(solver, "scan_kind", "lax") is None:
        return cast(diffrax.AbstractSolver, dataclasses.replace(cast(Any, solver), scan_kind="lax"))
    return solver


def _bdf_method(built: BDF, rtol: Array, atol: Array, live: Array | None, solver) -> Method:
    controller = BDF.default_controller(rtol, atol, theta_of, live, until=any_holds)
    built = _own(built, controller, live)
    return Method(built, controller, diffrax.ODETerm(cast(Callable, field)), _name(solver))


def _name(solver: str | diffrax.AbstractSolver) -> str:
    return solver if isinstance(solver, str) else type(solver).__name__


def marked_field(t, state: State, args) -> State:
    """The field, marked so that `counted` counts its evaluations."""
    rates, *others = field(t, state, args)
    return (evaluation(rates), *others)


class ThetaNorm(eqx.Module):
    """Root mean square over the coordinates of theta that count; integrals take no part.

    Where a dynamics carries further vectors, the largest of theta's and of theirs.

    Attributes:
        live: how many of theta's leading coordinates count; None for all.
        vectors: how many further vectors there are.
    """

    live: Int[Array, ""] | None = None
    vectors: int = eqx.field(static=True, default=0)

    def __call__(self, error: State | PyTree) -> Float[Array, ""]:
        """The norm of an error scaled by its tolerance."""
        theta = error[0]
        scale = live_scale(theta.size, self.live, theta.dtype)
        if self.vectors:
            parts = (theta, *error[2][: self.vectors])
            return jnp.stack([optx.rms_norm(part) for part in parts]).max() / scale
        return optx.rms_norm(theta) / scale


# VeryChord counts an equation as solved at 1e-2 of the tolerance, if corrections shrink.
_NO_CORRECTION = 1e-3


class CorrectionNorm(eqx.Module):
    """The norm of a root finder's corrections: zero below a thousandth of the tolerance.

    Corrections end at the rounding of the field, one as large as the next. A root finder that
    judges by their ratio calls that divergence, and a shorter step, where Newton's method is at
    rounding at once, does not help.

    Attributes:
        theta: the norm of theta.
    """

    theta: ThetaNorm

    def __call__(self, correction: State | PyTree) -> Float[Array, ""]:
        """The norm of a correction scaled by the tolerance."""
        norm = self.theta(correction)
        return jnp.where(norm < _NO_CORRECTION, jnp.zeros_like(norm), norm)


class StateNorm(eqx.Module):
    """The largest of the root mean square over theta and those of the integrals.

    Attributes:
        theta: the norm of theta.
    """

    theta: ThetaNorm

    def __call__(self, error: State | PyTree) -> Float[Array, ""]:
        """The norm of an error scaled by its tolerance."""
        rest = [optx.rms_norm(leaf) for leaf in jax.tree.leaves(error[1])]
        return jnp.stack([self.theta(error), *rest]).max()


def halting_outcome(halt: Halt) -> Outcome | None:
    """Why the integration was ended; None for no reason, or for a stopping rule."""
    return _OUTCOMES.get(halt)


_OUTCOMES = {
    Halt.BUDGET: Outcome.BUDGET,
    Halt.STEP_LIMIT: Outcome.STEP_LIMIT,
    Halt.NON_FINITE: Outcome.NON_FINITE,
    Halt.TIME_UNDERFLOW: Outcome.TIME_UNDERFLOW,
    Halt.NOT_SYMMETRIC: Outcome.NOT_SYMMETRIC,
    Halt.NO_PROGRESS: Outcome.NO_PROGRESS,
    Halt.UNSOLVED: Outcome.SOLVER_FAILURE,
}


def check_solver(solver: str | diffrax.AbstractSolver) -> None:
    """Refuse what is neither a known name nor an adaptive diffrax solver.

    Args:
        solver: the candidate.

    Raises:
        ValueError: if it is something else.
    """
    if isinstance(solver, str):
        if solver != AUTO and solver_named(solver) is None:
            raise ValueError(
                f"Argument `solver` must be a diffrax solver or one of {', '.join(SOLVERS)}, auto, "
                f"but is {solver!r}; choose one (names with a colon are those of `compare`)."
            )
    elif not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"Argument `solver` must be an adaptive diffrax solver, but is "
            f"{type(solver).__name__}; take one with an error estimate, such as 'tsit5'."
        )
    elif isinstance(solver, diffrax.AbstractWrappedSolver) and isinstance(solver, _OWN):
        raise ValueError(
            f"Argument `solver` must not wrap one of flowlift's own solvers, which choose their "
            f"steps together with their controllers, but is {type(solver).__name__} of "
            f"{type(cast(Any, solver).solver).__name__}; give that by itself."
        )
    elif isinstance(solver, _OWN) and not isinstance(solver.root_finder, Tolerances):
        raise ValueError(
            f"Argument `solver` must leave `root_finder` out: {type(solver).__name__} solves its "
            f"equations itself, and would not use the {type(solver.root_finder).__name__}."
        )
    elif not _takes_one_field(solver.term_structure):
        raise ValueError(
            f"Argument `solver` must take one field, but {type(solver).__name__} takes a sum of "
            "terms, which it treats differently; take another, such as 'kvaerno5' or 'bdf'."
        )


def _takes_one_field(terms: PyTree) -> bool:
    return isinstance(terms, type) and issubclass(diffrax.ODETerm, terms)


def _build(
    solver, rtol: Array, atol: Array, live: Array | None, vectors: int
) -> diffrax.AbstractSolver:
    check_solver(solver)
    solver = solver_named(solver) if isinstance(solver, str) else solver
    norm = CorrectionNorm(ThetaNorm(live, vectors))
    solver = seeing_its_end(cast(diffrax.AbstractSolver, solver))
    return _filled(solver, {"rtol": rtol, "atol": atol, "norm": norm})


def _filled(solver, ours: dict[str, Any]) -> diffrax.AbstractSolver:
    """What a user's root finder leaves to the controller is filled in, as diffrax does."""
    # diffrax takes a wrapper for whatever it wraps, but the root finder is the wrapped one's.
    if isinstance(solver, diffrax.AbstractWrappedSolver):
        inner = _filled(cast(Any, solver).solver, ours)
        return dataclasses.replace(cast(Any, solver), solver=inner)
    if isinstance(solver, diffrax.AbstractImplicitSolver) and not isinstance(solver, _OWN):
        root_finder = cast(Any, solver.root_finder)
        open_ = {k: v for k, v in ours.items() if getattr(root_finder, k, None) is _LEFT_OPEN}
        finder = dataclasses.replace(root_finder, **open_)
        # Such a root finder compares the residual with `atol` alone, however large the unknown is.
        if "atol" in open_ and getattr(finder, "cauchy_termination", False):
            finder = cast(Any, UntilRounding)(finder)
        solver = dataclasses.replace(cast(Any, solver), root_finder=finder)
    return cast(diffrax.AbstractSolver, solver)


def _own(solver, controller: WorkController, live: Array | None):
    """One of our solvers with what it leaves open: the flow's part, the controller's tolerances."""
    select = theta_of if solver.select is None else solver.select
    return dataclasses.replace(
        solver, select=select, live=live, root_finder=Tolerances.of(controller)
    )


_OWN = (BDF, RKC2, ExpRosenbrock)
# diffrax's mark in a root finder for "as the controller".
_LEFT_OPEN = diffrax.with_stepsize_controller_tols(optx.Newton)().rtol
