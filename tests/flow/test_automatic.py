"""The automatic choice of a solver, and what takes over when it stalls."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import flow, modules, tasks
from flowlift.flow import Outcome
from flowlift.flow.choice import choose, threshold
from flowlift.flow.forecast import Mark, Outlook, Spell, stabilised_cost
from flowlift.flow.problem import make_problem
from flowlift.flow.programs import host_field
from flowlift.flow.sharpness import Ends, decided, spectrum, spectrum_on_host
from flowlift.flow.takeover import WINDOW, dearer, due, slow, stalled
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
    choice = choose(50, horizon, rtol, Ends(*ends), smooth)
    assert choice.names == (first,)
    assert choice.text.startswith(f"{first} (auto: ")
    assert first not in choice.fallbacks


def test_the_tighter_the_tolerance_the_longer_explicit_methods_pay():
    stiffness = 0.5 * (threshold(1e-3, True) + threshold(1e-6, True))
    loose, tight = (choose(50, stiffness, rtol, Ends(0.0, 1.0), True) for rtol in (1e-3, 1e-6))
    assert (loose.names, tight.names) == (("bdf",), ("tsit5",))
    assert tight.fallbacks[0] == "bdf"


def test_too_many_parameters_for_a_basis_leave_the_stabilised_method():
    choice = choose(10_000_000, 1e4, 1e-4, Ends(0.0, 10.0), True)
    assert choice.names == ("rkc2",)
    assert "10000000 parameters" in choice.text


def test_the_spectrum_is_inside_the_true_one_in_both_engines():
    problem = problems.Quadratic.draw(30, 1e3)
    objective = tasks.population(problem).objective
    found = make_problem(problems.Vector(jnp.asarray(problem.start)), objective, "float64")
    graph = spectrum(found, found.start)
    host = spectrum_on_host(host_field(found), found.start_on_host)
    for lowest, highest, products in (graph, host):
        assert 1e-3 <= lowest < 0.1
        assert 0.95 < highest <= 1 + 1e-12
        assert products == 8
    np.testing.assert_allclose(graph, host, rtol=1e-8)


def test_products_end_where_they_have_decided():
    """A Ritz value is a lower bound of the sharpness: far above the limit the first one decides."""
    problem = problems.Quadratic.draw(30, 1e3)
    objective = tasks.population(problem).objective
    found = make_problem(problems.Vector(jnp.asarray(problem.start)), objective, "float64")
    field, theta = host_field(found), found.start_on_host
    stiff = spectrum_on_host(field, theta, decided(1e-2))
    mild = spectrum_on_host(field, theta, decided(1e2))
    close = spectrum_on_host(field, theta, decided(0.9))
    assert (stiff.products, mild.products) == (1, 1)
    assert 2 < close.products < 8
    assert 1e-2 < stiff.highest < 0.9 < close.highest <= 1 + 1e-12
    assert decided(1.0)(float("nan"), float("nan"), 1)
    # Below the limit by less than the first products can say, they go on.
    assert not decided(1.0)(0.1, 0.1, 1)
    assert decided(1.0)(0.1, 0.1, 3)


def stiff_quadratic(horizon, **kwargs):
    problem = problems.Quadratic.draw(10, 1e4)
    model = problems.Vector(jnp.asarray(problem.start))
    arguments = {"solver": "auto", "rtol": 1e-5, "atol": 1e-8} | kwargs
    return problem, flow.solve(model, problem, horizon, **arguments)


def test_auto_says_which_solver_ran_and_why():
    _, solution = stiff_quadratic(1e4)
    assert solution.solver.startswith("bdf (auto: stiff, T x sharpness at least ")
    assert solution.solvers == ("bdf",)
    _, again = stiff_quadratic(1e4, solver="bdf")
    # What decides at the start is counted: here one product does.
    assert solution.stats.cost == again.stats.cost + 2


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


def spell(attempts, accepted):
    return Spell(Mark(), Mark(attempts=attempts, accepted=accepted))


def test_a_stall_is_many_rejections_in_a_full_window_or_an_underflow():
    assert stalled("bdf", None, spell(64, 31), 64.0) == "stalled, 33 of 64 steps rejected"
    assert stalled("bdf", None, spell(64, 32), 64.0) is None
    assert stalled("bdf", None, spell(40, 1), 64.0) is None
    assert stalled("bdf", Outcome.BUDGET, spell(70, 10), 64.0) is None
    underflow = stalled("bdf", Outcome.TIME_UNDERFLOW, spell(3, 1), 64.0)
    assert underflow == "ended by 'time underflow'"


def test_rejections_are_watched_over_several_judgements():
    first = spell(32, 16).mark
    assert (first.watched, first.kept) == (0, 0)
    second = Spell(first, Mark(64, 31))
    assert second.lately == (64, 31)
    assert second.mark == Mark(64, 31, watched=64, kept=31)


def test_a_solver_is_judged_after_a_window_of_attempts_or_of_cost():
    judged = Mark(attempts=100, cost=1000)
    assert due("bdf", judged, 132, 1001)
    assert not due("bdf", judged, 131, 1001)
    assert due("tsit5", judged, 116, 1001)
    assert not due("tsit5", judged, 115, 1001)
    assert due("bdf", judged, 102, 1300)


def test_a_stiff_solver_stalls_when_accepted_steps_gain_no_time():
    assert stalled("bdf", None, spell(32, 32), 1e4) is None
    why = stalled("bdf", None, spell(32, 32), 2e6)
    assert why == "would have needed 2e+06 more steps to double the time"
    assert stalled("bdf", Outcome.NO_PROGRESS, spell(32, 32), 2e6) == "ended by 'no progress'"


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


def test_an_explicit_method_is_asked_for_the_sharpness_where_many_steps_are_left():
    held = Spell(Mark(time=1.0, step=0.01), Mark(16, 16, 96, 1.16, 0.01))
    limit = slow("tsit5", held, 100.0, 50.0)
    # What is left must be stiffer than a flow that would begin with a stiff method.
    assert limit * (100.0 - 1.16) == pytest.approx(2 * 50.0)
    assert slow("tsit5", held, 1.2, 50.0) == np.inf
    # Steps that grow by a fifth each are at the horizon soon.
    growing = Spell(Mark(time=1.0, step=0.01), Mark(16, 16, 96, 2.0, 0.01 * 1.2**16))
    assert slow("tsit5", growing, 100.0, 50.0) == np.inf
    assert slow("bdf", held, 100.0, 50.0) == np.inf
    # An explosion is a result.
    assert stalled("tsit5", Outcome.TIME_UNDERFLOW, spell(70, 3), 64.0) is None


def test_an_explicit_method_gives_way_where_time_hardly_grows():
    """On the way to a far horizon it takes many steps, at a kink far more."""
    assert stalled("tsit5", None, spell(16, 16), 9e5) is None
    why = stalled("tsit5", None, spell(16, 16), 3e6)
    assert why == "would have needed 3e+06 more steps to double the time"
    assert stalled("tsit5", Outcome.STEP_LIMIT, spell(16, 16), 3e6) is None


@pytest.mark.slow
def test_kinks_in_flat_fields_end_soon():
    """theta' = -sign theta: no sharpness shows, and every method crosses zero to and fro."""
    start = jnp.array([1.0, -2.0, 0.5])
    solution = flow.solve(
        problems.Vector(start), lambda m: jnp.sum(jnp.abs(m.theta)), 10.0, rtol=1e-2
    )
    assert solution.result == Outcome.NO_PROGRESS
    assert solution.time == pytest.approx(0.5, rel=1e-2)
    assert solution.stats.cost < 40_000


@pytest.mark.slow
def test_the_last_solver_does_not_crawl_for_ever():
    """At the tip of |theta| tsit5, the last in turn, would have taken its 10^7 steps."""
    start = problems.Vector(jnp.linspace(0.5, 1.0, 100))
    cone = lambda m: jnp.sqrt(jnp.sum(m.theta**2))
    solution = flow.solve(start, cone, 1e5, rtol=0.1, atol=1e-9)
    assert solution.result == Outcome.NO_PROGRESS
    assert solution.time == pytest.approx(float(jnp.linalg.norm(start.theta)), rel=0.2)
    assert solution.stats.cost < 75_000


def test_a_dear_bdf_gives_way_on_smooth_stiff_fields_alone():
    seen = Outlook(radius=20.0, third=2.0, step=0.5)
    before, now = Mark(time=10.0), Mark(WINDOW, WINDOW - 2, 500, 25.0, 0.5)
    cheap = stabilised_cost(seen, 25.0, 10.0, 25.0)
    assert "rkc2" in (dearer(Spell(before, now._replace(cost=int(4 * cheap))), seen, 100.0) or "")
    assert dearer(Spell(before, now._replace(cost=int(0.8 * cheap))), seen, 100.0) is None
    dear = now._replace(cost=int(4 * cheap))
    # A kink: steps rejected, no longer than 1 / radius, or gaining no time.
    assert dearer(Spell(before, dear._replace(accepted=16)), seen, 100.0) is None
    assert dearer(Spell(before, dear), seen._replace(radius=2.0), 100.0) is None
    assert dearer(Spell(before._replace(time=24.9), dear), seen, 100.0) is None
    # Far from the horizon what RKC2 pays for the root of t decides.
    assert dearer(Spell(before, dear), seen, 1e7) is None


def many_stiff_directions():
    """A quadratic with more large eigenvalues than a Krylov basis holds."""
    values = jnp.linspace(0.01, 30.0, 2000)
    start = problems.Vector(jnp.asarray(np.random.default_rng(0).standard_normal(2000)))
    return start, lambda m: 0.5 * jnp.sum(values * m.theta**2)


def test_a_bdf_that_must_learn_too_much_is_taken_over_from_by_rkc2():
    start, loss = many_stiff_directions()
    run = lambda solver: flow.solve(start, loss, 60.0, solver=solver, rtol=1e-3, atol=1e-6)
    auto, bdf, rkc2 = (run(solver) for solver in ("auto", "bdf", "rkc2"))
    assert auto.solvers == ("bdf", "rkc2")
    assert "bdf would have cost" in auto.solver
    # What the choice may cost at worst: half as much again as the best.
    assert auto.stats.cost < 1.5 * rkc2.stats.cost < 1.5 * bdf.stats.cost
    values = np.linspace(0.01, 30.0, 2000)
    decayed = np.exp(-2 * values * auto.times[:, None]) * np.asarray(start.theta) ** 2
    np.testing.assert_allclose(auto.loss, 0.5 * decayed @ values, rtol=2e-2, atol=1e-4)


@pytest.mark.slow  # two stiff flows of 2,000 parameters, by two solvers each
def test_a_takeover_does_not_depend_on_how_often_the_flow_is_looked_at():
    start, loss = many_stiff_directions()
    run = lambda save: flow.solve(start, loss, 60.0, rtol=1e-3, atol=1e-6, save=save)
    few, many = run([60.0]), run(np.linspace(0.1, 60.0, 57))
    assert few.solver == many.solver
    assert (few.stats.cost, few.stats.steps) == (many.stats.cost, many.stats.steps)
    # Times are summed in another order.
    np.testing.assert_allclose(few.model.theta, many.model.theta, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
def test_both_engines_take_over_at_the_same_step():
    """Slow, since the whole BDF is compiled."""
    start, loss = many_stiff_directions()
    run = lambda engine: flow.solve(start, loss, 60.0, rtol=1e-3, atol=1e-6, engine=engine)
    host, graph = run("host"), run("graph")
    assert host.solvers == graph.solvers == ("bdf", "rkc2")
    assert abs(host.stats.steps - graph.stats.steps) < 0.2 * host.stats.steps
    assert abs(host.stats.cost - graph.stats.cost) < 0.2 * host.stats.cost


class Killed(BaseException):
    """Nothing in the flow may catch it."""


# Killed before the takeover: an ordinary resumed flow, which other tests have.
@pytest.mark.slow  # flows in pieces
@pytest.mark.parametrize("ran", [pytest.param(("bdf",), marks=pytest.mark.slow), ("bdf", "rkc2")])
def test_a_flow_killed_around_a_takeover_goes_on_with_the_same_bits(tmp_path, ran):
    start, loss = many_stiff_directions()
    run = lambda **given: flow.solve(start, loss, 60.0, rtol=1e-3, atol=1e-6, **given)
    seen = []

    def kill(checkpoint):
        seen.append(checkpoint.settings.solvers)
        if len(seen) > 2 and seen[-1] == ran:
            raise Killed

    path = tmp_path / "flow.npz"
    with pytest.raises(Killed):
        run(checkpoints=flow.Checkpoints(path, 0.0, on_leg=kill, identity="a quadratic"))
    again, whole = run(checkpoints=flow.Checkpoints(path, identity="a quadratic")), run()
    assert again.solver == whole.solver
    assert dataclasses.replace(again.stats, seconds=0) == dataclasses.replace(
        whole.stats, seconds=0
    )
    np.testing.assert_array_equal(again.loss, whole.loss)
    np.testing.assert_array_equal(again.model.theta, whole.model.theta)


@pytest.mark.slow  # compiles two solvers once more
def test_a_takeover_in_single_precision():
    start, loss = many_stiff_directions()
    settings = {"rtol": 1e-3, "atol": 1e-6, "precision": "float32"}
    auto = flow.solve(start, loss, 60.0, **settings)
    assert auto.solvers == ("bdf", "rkc2")
    assert auto.success
    double = flow.solve(start, loss, 60.0, rtol=1e-3, atol=1e-6)
    assert auto.stats.cost < 1.2 * double.stats.cost
    assert auto.model.theta.dtype == jnp.float32


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
    assert "tsit5 met a sharpness of" in solution.solver
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
    # By its rejections, or by its cost.
    assert "bdf stalled, " in tight.solver or "bdf has cost " in tight.solver
    explicit = flow.solve(start, loss, 100.0, solver="tsit5", rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(tight.loss[-1], explicit.loss[-1], rtol=2e-2)
