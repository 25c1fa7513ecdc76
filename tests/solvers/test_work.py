"""The controller that counts: when it halts."""

import diffrax
import jax
import jax.numpy as jnp
import pytest

from flowlift.solvers import RKC2, Halt, PredictiveController, WorkController
from flowlift.solvers.lanczos import Krylov
from flowlift.solvers.pace import WINDOW, Pace
from flowlift.solvers.phi import Projection
from flowlift.solvers.predictive import Estimate
from flowlift.solvers.work import StepReport, Work


@pytest.mark.parametrize(("threshold", "halted"), [(0.5, Halt.CONDITION), (-1.0, Halt.NONE)])
def test_a_condition_halts_at_the_first_accepted_step_where_it_holds(threshold, halted):
    """y = exp(-t) passes 1/2 between two steps of length 1/8; it never passes -1."""
    inner = diffrax.PIDController(1e-3, 1e-3, dtmax=0.125, factormax=1.0)
    controller = WorkController(inner, 6, until=lambda y, bound: (y <= bound).all())
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        diffrax.Tsit5(),
        0.0,
        2.0,
        0.125,
        jnp.ones(1),
        args=jnp.asarray(threshold),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        stepsize_controller=controller,
        throw=False,
    )
    assert solution.ts is not None
    assert solution.controller_state is not None
    assert int(solution.controller_state.halt) == halted
    # ln 2 = 0.693 lies between 5/8 and 6/8.
    assert float(solution.ts[0]) == pytest.approx(0.75 if halted else 2.0)


def attempt(controller, state, candidate, error, step=1.0, halt=Halt.NONE):
    """One attempt of a solver that reports the error of a single number."""
    report = StepReport(Estimate(jnp.asarray([error]), jnp.asarray(1e9)), Work.of(1), int(halt))
    t0, t1 = jnp.asarray(0.0), jnp.asarray(step)
    y0, y1 = jnp.ones(1), jnp.asarray([candidate])
    keep, _, following, _, new, _ = controller.adapt_step_size(
        t0, t1, y0, y1, None, report, 3, state
    )
    return bool(keep), float(following), new


def fresh(controller):
    term = diffrax.ODETerm(lambda t, y, args: -y)
    y0 = jnp.ones(1)
    return controller.init(term, 0.0, jnp.asarray(10.0), y0, 1.0, None, term.vf, 3)[1]


@pytest.mark.parametrize("inner", [diffrax.PIDController, PredictiveController])
def test_a_flow_starts_where_the_field_a_little_ahead_is_not_finite(inner):
    """Towards rest at 0.999, with nothing beyond 1: a first step of a hundredth of y passes it."""
    field = lambda t, y, args: jnp.where(y > 1, jnp.nan, 100 * (0.999 - y))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5() if inner is diffrax.PIDController else RKC2(),
        0.0,
        1.0,
        None,
        jnp.array([0.9985]),
        stepsize_controller=WorkController(inner(1e-3, 1e-6), 6, startup=2),
        throw=False,
    )
    assert solution.result == diffrax.RESULTS.successful
    assert solution.ys is not None
    assert float(solution.ys[0, 0]) == pytest.approx(0.999, abs=1e-4)


@pytest.mark.parametrize(
    ("candidate", "error"), [(jnp.nan, 0.0), (jnp.inf, 0.0), (1.0, jnp.inf), (jnp.nan, jnp.inf)]
)
def test_what_is_not_finite_is_rejected_with_half_the_step(candidate, error):
    """The wrapped controller's memory stays as it was: a NaN in it would spoil every later step."""
    controller = WorkController(PredictiveController(1e-3, 1e-6))
    _, _, state = attempt(controller, fresh(controller), 0.9, 1e-4)
    keep, following, after = attempt(controller, state, candidate, error)
    assert not keep
    assert following == 0.5
    same = jax.tree.map(lambda a, b: bool(a == b), state.inner, after.inner)
    assert all(jax.tree.leaves(same))
    keep, following, _ = attempt(controller, after, 0.9, 1e-4, 0.5)
    assert keep
    assert 0.5 < following < 10


@pytest.mark.parametrize("error", [0.0, jnp.inf])
@pytest.mark.parametrize(
    ("candidate", "reason"), [(1.0, Halt.UNSOLVED), (jnp.nan, Halt.NON_FINITE)]
)
def test_an_unsolved_step_is_repeated_with_half_its_size(error, candidate, reason):
    """24 of them in a row end the integration, by the name of what was wrong with the last."""
    controller = WorkController(PredictiveController(1e-3, 1e-6))
    state, step = fresh(controller), 1.0
    for attempts in range(1, 25):
        keep, following, state = attempt(
            controller, state, candidate, error, step, halt=Halt.UNSOLVED
        )
        assert not keep
        assert following == step / 2
        assert int(state.halt) == (reason if attempts == 24 else Halt.NONE)
        step = following
    # One that is solved in between starts the count again.
    solved = attempt(controller, state.allow(), 0.9, 1e-4, step)
    assert solved[0]
    assert int(solved[2].non_finite) == 0


def test_a_step_that_moves_nothing_does_not_begin_the_count_of_bad_ones_again():
    """Neither does it count; one that moves y, or comes after an unsolved one, does begin it."""
    controller = WorkController(PredictiveController(1e-3, 1e-6))
    state = fresh(controller)
    for _ in range(3):
        _, _, state = attempt(controller, state, jnp.nan, 0.0)
    assert int(state.non_finite) == 3
    keep, _, stood = attempt(controller, state, 1.0, 1e-4)
    assert keep
    assert int(stood.non_finite) == 3
    assert int(attempt(controller, stood, jnp.nan, 0.0)[2].non_finite) == 4
    assert int(attempt(controller, stood, 0.9, 1e-4)[2].non_finite) == 0
    _, _, unsolved = attempt(controller, state, 0.9, 1e-4, halt=Halt.UNSOLVED)
    assert int(attempt(controller, unsolved, 1.0, 1e-4)[2].non_finite) == 0


def test_steps_that_gain_no_time_end_the_integration():
    """1024 attempts that gain 1e-9 of the time each: doubling it would take 1e9."""
    pace = Pace(jnp.asarray(1.0), jnp.asarray(0.0), jnp.asarray(0), jnp.asarray(0.0))
    pace = jax.lax.fori_loop(0, WINDOW, lambda _, p: p.after(jnp.asarray(1e-9)), pace)
    assert float(pace.doubling) == pytest.approx(1e9, rel=1e-5)
    pace = jax.lax.fori_loop(0, WINDOW, lambda _, p: p.after(jnp.asarray(1e-3)), pace)
    assert float(pace.doubling) == pytest.approx(1e3 * (1 + 1.024), rel=1e-5)
    assert float(pace.time) == pytest.approx(2.024, rel=1e-5)


@pytest.mark.slow  # compiles the solver for a field of its own
@pytest.mark.parametrize("gap", [0.0, 1e-3])
def test_asymmetry_is_relative_to_the_largest_product(gap):
    """diag(1e16, 1, 1): rounding of the first entry is as large as the others, and is no fault."""
    matrix = jnp.diag(jnp.array([1e16, 1.0, 1.0])) + gap * 1e16 * jnp.eye(3, k=1)
    krylov = Krylov.empty(3, jnp.zeros(3)).restarted(jnp.array([1.0, 0.7, -0.4]))
    projection = Projection.empty(3, jnp.zeros(3), 0, 1)
    operator = lambda v: (matrix @ v, jnp.zeros(0))
    direction = jnp.array([1.0, 0.7, -0.4])
    for _ in range(3):
        krylov = krylov.extended(lambda v: matrix @ v)
        projection = projection.extend(direction, jnp.asarray(0), operator)
        direction = projection.tails[0] + 1e-300
    assert bool(krylov.symmetric) == (gap == 0)
    assert bool(projection.symmetric) == (gap == 0)
