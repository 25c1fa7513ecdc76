"""The automatic choice of a solver, and what takes over when it stalls."""

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import flow, modules, tasks
from flowlift.flow import Outcome
from flowlift.flow.choice import choose, spectrum_at_start, stalled, threshold
from flowlift.flow.problem import make_problem
from flowlift.lift import FixedInDegree, Gaussian, sample


@pytest.mark.parametrize(
    ("horizon", "rtol", "ends", "smooth", "first"),
    [
        (1.0, 1e-4, (0.0, 10.0), True, "tsit5"),
        (1e4, 1e-4, (0.0, 10.0), True, "bdf"),
        (1e4, 1e-4, (0.0, 10.0), None, "bdf"),
        (1e4, 1e-4, (0.0, 10.0), False, "rkc2"),
        (1e4, 1e-6, (0.0, 10.0), False, "tsit5"),
        (1.0, 1e-4, (0.0, 10.0), False, "tsit5"),
        (1e4, 1e-4, (-2.0, -1.0), True, "tsit5"),
        (1e4, 1e-4, (0.0, float("nan")), True, "tsit5"),
        (1.0, 1e-10, (0.0, 10.0), True, "dopri8"),
    ],
)
def test_the_choice_follows_stiffness_tolerance_and_smoothness(horizon, rtol, ends, smooth, first):
    choice = choose(50, horizon, rtol, ends, smooth)
    assert choice.names == (first,)
    assert choice.text.startswith(f"{first} (auto: ")
    assert first not in choice.fallbacks


def test_the_tighter_the_tolerance_the_longer_explicit_methods_pay():
    stiffness = 0.5 * (threshold(1e-3) + threshold(1e-6))
    loose, tight = (choose(50, stiffness, rtol, (0.0, 1.0), True) for rtol in (1e-3, 1e-6))
    assert (loose.names, tight.names) == (("bdf",), ("tsit5",))
    assert tight.fallbacks[0] == "bdf"


def test_too_many_parameters_for_a_basis_leave_the_stabilised_method():
    choice = choose(10_000_000, 1e4, 1e-4, (0.0, 10.0), True)
    assert choice.names == ("rkc2",)
    assert "10000000 parameters" in choice.text


def test_the_spectrum_at_the_start_is_inside_the_true_one():
    problem = problems.Quadratic.draw(30, 1e3)
    objective = tasks.population(problem).objective
    found = make_problem(problems.Vector(jnp.asarray(problem.start)), objective, "float64")
    lowest, highest = spectrum_at_start(found)
    assert 1e-3 <= lowest < 0.1
    assert 0.95 < highest <= 1 + 1e-12


def stiff_quadratic(horizon, **kwargs):
    problem = problems.Quadratic.draw(10, 1e4)
    model = problems.Vector(jnp.asarray(problem.start))
    arguments = {"solver": "auto", "rtol": 1e-5, "atol": 1e-8} | kwargs
    return problem, flow.solve(model, problem, horizon, **arguments)


def test_auto_says_which_solver_ran_and_why():
    _, solution = stiff_quadratic(1e4)
    assert solution.solver.startswith("bdf (auto: stiff, T x sharpness = 1e+04, rtol = 1e-05")
    assert solution.solvers == ("bdf",)
    _, again = stiff_quadratic(1e4, solver="bdf")
    # The ends of the spectrum at the start cost eight products.
    assert solution.stats.cost == again.stats.cost + 2 * 8


@pytest.mark.slow
def test_auto_reads_the_smoothness_that_a_lift_declares():
    module = modules.mlp(3, depth=1, activation="relu")
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    lift = sample(module, copies=5, edges=FixedInDegree(2), weights=weights, seed=2)
    task = tasks.student_teacher(modules.mlp(3, depth=1), samples=10, seed=0)
    solution = flow.solve(lift, task, 500.0, solver="auto", rtol=1e-4)
    # Where it crawls along a kink, an explicit method may take over.
    assert solution.solvers[0] == "rkc2"
    assert "(auto: stiff" in solution.solver
    assert "not twice differentiable" in solution.solver
    assert solution.success


def test_a_stall_is_many_rejections_in_a_full_window_or_an_underflow():
    assert stalled("bdf", None, 64, 31, 9.0, 64.0) == "stalled, 33 of 64 steps rejected"
    assert stalled("bdf", None, 64, 32, 9.0, 64.0) is None
    assert stalled("bdf", None, 40, 1, 9.0, 64.0) is None
    assert stalled("bdf", Outcome.BUDGET, 70, 10, 9.0, 64.0) is None
    assert stalled("bdf", Outcome.TIME_UNDERFLOW, 3, 1, 9.0, 64.0) == "ended by 'time underflow'"


def test_a_stiff_solver_stalls_when_accepted_steps_gain_no_time():
    assert stalled("bdf", None, 64, 64, 9e9, 1e4) is None
    why = stalled("bdf", None, 64, 64, 9e9, 2e6)
    assert why == "would have needed 2e+06 more steps to double the time"
    assert stalled("bdf", Outcome.NO_PROGRESS, 64, 64, 9e9, 2e6) == "ended by 'no progress'"


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 1e-6])
def test_a_kink_without_a_way_on_ends_soon_and_at_the_kink(rtol):
    """|w| reaches 0 at t = |w_0| and has no gradient there; the end is never far from the kink."""
    for start in ([3.0, 4.1], [1.0, 2.0], [-0.3, 0.7]):
        model = problems.Vector(jnp.array(start))
        norm = lambda m: jnp.sqrt(jnp.sum(m.theta**2))
        solution = flow.solve(model, norm, 10.0, rtol=rtol, atol=1e-3 * rtol)
        # A step may lead to exactly 0, where the gradient of this formula is NaN, or to 1e-20,
        # where the curvature 1 / |w| leaves no step above the resolution of time.
        ends = (Outcome.NO_PROGRESS, Outcome.NON_FINITE, Outcome.TIME_UNDERFLOW)
        assert solution.result in ends
        assert solution.loss[-1] < 1e-6
        assert solution.time > 0.999 * np.hypot(*start)
        assert solution.stats.steps < 5_000


def test_an_explicit_method_stalls_by_its_pace_and_not_by_an_explosion():
    assert stalled("tsit5", None, 64, 64, 13e3, 64.0) == "would have needed 1.3e+04 more steps"
    assert stalled("tsit5", None, 64, 64, 300.0, 64.0) is None
    assert stalled("tsit5", None, 60, 60, 13e3, 64.0) is None
    assert stalled("tsit5", Outcome.TIME_UNDERFLOW, 70, 3, 13e3, 64.0) is None


def sharpening(m):
    """The curvature across grows from 0 to 1e4 as x goes from 0 to 1."""
    x, y = m.theta
    return 0.5 * (x - 1) ** 2 + 0.5e4 * x**2 * y**2


@pytest.mark.slow
def test_a_flow_that_turns_stiff_is_taken_over_from_the_explicit_method():
    """Its start does not show it: T x sharpness is 20 there, and 2e5 later."""
    start = problems.Vector(jnp.array([0.0, 0.01]))
    solution = flow.solve(start, sharpening, 20.0, solver="auto", rtol=1e-4, atol=1e-9)
    assert solution.result == Outcome.HORIZON
    assert solution.solvers[:2] == ("tsit5", "bdf")
    assert "tsit5 would have needed" in solution.solver
    assert np.all(np.diff(solution.times) > 0)
    # 2 T lambda gradients is what the explicit method would take.
    assert solution.stats.cost < 4_000
    np.testing.assert_allclose(solution.model.theta[0], 1 - np.exp(-20), rtol=1e-4)


@pytest.mark.slow
def test_another_solver_takes_over_from_the_same_position(monkeypatch):
    """Counts, records and the curve go on; the solution says who ran."""
    reasons = iter(["stalled, for the test"])
    monkeypatch.setattr("flowlift.flow.loop.stalled", lambda *_: next(reasons, None))
    problem, solution = stiff_quadratic(2e3, rtol=1e-4)
    assert solution.result == Outcome.HORIZON
    assert solution.solvers == ("bdf", "rkc2")
    assert "bdf stalled, for the test before t = " in solution.solver
    np.testing.assert_allclose(solution.loss, problem.loss_at(solution.times), rtol=1e-2, atol=1e-7)
    assert np.all(np.diff(solution.times) > 0)
    assert solution.stats.steps > 64
    assert solution.stats.hvps > 8
    later = flow.resume(solution, 4e3)
    assert later.solver == solution.solver


def relu_student():
    """Ten ReLUs learn four: L has kinks, and nothing declares them."""
    rng = np.random.default_rng(0)

    def network(n):
        shapes = (((n, 4), 1.0), ((n,), n**-0.5), ((n,), 1.0), ((), 1.0))
        return tuple(jnp.asarray(rng.standard_normal(shape) * scale) for shape, scale in shapes)

    def output(parameters, x):
        w, a, b, c = parameters
        return jax.nn.relu(x @ w.T + b) @ a + c

    start, x = network(10), jnp.asarray(rng.standard_normal((256, 4)))
    y = output(network(4), x)
    return start, lambda parameters: jnp.mean((output(parameters, x) - y) ** 2)


@pytest.mark.slow
def test_kinks_that_nobody_declared_stall_the_stiff_solver():
    """At a loose tolerance it steps across them; at a tight one it is taken over from."""
    start, loss = relu_student()
    loose = flow.solve(start, loss, 100.0, rtol=1e-3, atol=1e-6)
    assert loose.solvers == ("bdf",)
    tight = flow.solve(start, loss, 100.0, rtol=1e-5, atol=1e-8)
    assert tight.success
    assert tight.solvers == ("bdf", "tsit5")
    assert "bdf stalled, " in tight.solver
    explicit = flow.solve(start, loss, 100.0, solver="tsit5", rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(tight.loss[-1], explicit.loss[-1], rtol=2e-2)
