"""The flow against closed forms, invariants, and independent high-order references."""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import problems
import pytest

from flowlift import flow, modules, tasks
from flowlift.flow import GradientNormBelow, LogTimes, LossBelow, Outcome, Stagnation
from flowlift.lift import BernoulliInDegree, FixedInDegree, Gaussian, sample
from flowlift.solvers import RKC2

# What a flow does whatever its solver; the automatic choice has tests of its own.
solve = functools.partial(flow.solve, solver="tsit5")


def quadratic_flow(condition=100.0, size=5, **kwargs):
    problem = problems.Quadratic.draw(size, condition)
    model = problems.Vector(jnp.asarray(problem.start))
    return problem, solve(model, problem, **{"horizon": 3 * condition} | kwargs)


@pytest.fixture(scope="module")
def small_lift():
    module = modules.mlp(3, 2, depth=2)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    return sample(module, copies=6, edges=FixedInDegree(3), weights=weights, seed=0)


@pytest.fixture(scope="module")
def small_task():
    return tasks.student_teacher(modules.mlp(3, 2, depth=1), samples=20, seed=1, copies=2)


@pytest.fixture(scope="module")
def small_solution(small_lift, small_task):
    return solve(small_lift, small_task, 100.0, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("solver", ["tsit5", "dopri8", "kvaerno5"])
def test_quadratic_flow_is_the_matrix_exponential(solver):
    problem, solution = quadratic_flow(solver=solver, rtol=1e-9, atol=1e-12)
    assert solution.result == Outcome.HORIZON
    assert solution.engine == ("graph" if solver == "kvaerno5" else "host")
    np.testing.assert_allclose(solution.model.theta, problem.theta(300.0), rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        solution.loss, problem.loss_at(solution.times), rtol=2e-7, atol=1e-13
    )
    np.testing.assert_allclose(solution.arc_length[-1], problem.arc_length_at(300.0), rtol=1e-6)
    gap = np.asarray(solution.model.theta) - problem.start
    assert solution.distance[-1] == pytest.approx(np.linalg.norm(gap), rel=1e-12)


def test_quadratic_flow_at_condition_number_a_million():
    problem, solution = quadratic_flow(
        1e6, solver="kvaerno5", rtol=1e-7, atol=1e-10, horizon=3e6, save=LogTimes(2, start=1.0)
    )
    assert solution.time == 3e6
    np.testing.assert_allclose(solution.model.theta, problem.theta(3e6), rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        solution.loss, problem.loss_at(solution.times), rtol=1e-4, atol=1e-15
    )


@pytest.mark.parametrize("solver", ["tsit5", "dopri8", "kvaerno5"])
def test_error_is_proportional_to_the_tolerance(solver):
    """Both ways: a hundredfold tighter tolerance gives 10 to 3000 times less error."""
    problem = problems.Quadratic.draw(5, 30.0)
    model = problems.Vector(jnp.asarray(problem.start))
    errors = []
    for rtol in (1e-5, 1e-7, 1e-9):
        settings = {"solver": solver, "rtol": rtol, "atol": 1e-3 * rtol, "save": [40.0]}
        solution = solve(model, problem, 40.0, **settings)
        errors.append(np.max(np.abs(solution.model.theta - problem.theta(40.0))))
    for coarse, fine in itertools.pairwise(errors):
        assert 10 < coarse / fine < 3000


def test_two_layer_linear_modes_follow_the_closed_form():
    strengths, u0 = np.array([2.0, 1.0, 0.5]), 1e-3
    model = problems.balanced_modes(strengths, u0)

    def loss(model):
        return 0.5 * jnp.sum((model.w2 @ model.w1 - jnp.diag(strengths)) ** 2)

    times = [1.0, 2.0, 4.0, 8.0]
    solution = solve(
        model,
        loss,
        8.0,
        save=times,
        rtol=1e-9,
        atol=1e-12,
        observers={"product": lambda m: jnp.diag(m.w2 @ m.w1)},
    )
    exact = np.stack([problems.mode_strength(s, u0, solution.times) for s in strengths], axis=1)
    np.testing.assert_allclose(solution.observations["product"], exact, rtol=1e-6)
    w1, w2 = solution.model.w1, solution.model.w2
    np.testing.assert_allclose(w2.T @ w2 - w1 @ w1.T, 0, atol=1e-9)


def test_balancedness_of_a_deep_linear_net_is_conserved():
    rng = np.random.default_rng(0)
    weights = [jnp.asarray(rng.standard_normal(s)) for s in ((4, 3), (5, 4), (2, 5))]
    target = jnp.asarray(rng.standard_normal((2, 3)))

    def loss(ws):
        return jnp.sum((ws[2] @ ws[1] @ ws[0] - target) ** 2)

    def unbalance(ws):
        return [ws[i + 1].T @ ws[i + 1] - ws[i] @ ws[i].T for i in range(2)]

    solution = solve(weights, loss, 5.0, rtol=1e-9, atol=1e-12)
    for before, after in zip(unbalance(weights), unbalance(solution.model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-7)


def test_relu_neurons_conserve_their_imbalance():
    """|w_in|^2 - a^2 of every neuron of a bias-free two-layer relu net (theory, section 8)."""
    module = modules.mlp(3, depth=1, activation="relu", bias=False)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    lift = sample(module, copies=5, edges=FixedInDegree(1), weights=weights, seed=2)
    task = tasks.student_teacher(modules.mlp(3, depth=1), samples=10, seed=0)
    solution = solve(lift, task, 5.0, rtol=1e-9, atol=1e-11)

    def imbalance(model):
        return jnp.sum(model.weights["x->h1"] ** 2, axis=1) - model.weights["h1->y"] ** 2

    np.testing.assert_allclose(imbalance(solution.model), imbalance(lift), atol=1e-6)
    assert solution.distance[-1] > 0.1


def test_energy_identity_and_monotone_loss(small_solution):
    loss, energy = small_solution.loss, small_solution.energy
    np.testing.assert_allclose(loss[0] - loss, energy, rtol=1e-6, atol=1e-9)
    assert np.all(np.diff(loss) < 0)
    assert np.all(np.diff(small_solution.arc_length) > 0)
    assert np.all(small_solution.distance <= small_solution.arc_length * (1 + 1e-6) + 1e-12)
    # Cauchy-Schwarz: the path is no longer than sqrt(t x energy).
    t = small_solution.times
    assert np.all(small_solution.arc_length <= np.sqrt(t * energy) * (1 + 1e-6) + 1e-12)


def test_records_are_those_of_the_returned_model(small_lift, small_task, small_solution):
    """theta(T) is returned, with its own loss and gradient; the start is untouched."""
    loss, gradient = eqx.filter_value_and_grad(small_task.objective)(small_solution.model)
    leaves = jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))
    norm = math.sqrt(sum(float(jnp.sum(g**2)) for g in leaves))
    assert small_solution.loss[-1] == pytest.approx(float(loss), rel=1e-12)
    assert small_solution.gradient_norm[-1] == pytest.approx(norm, rel=1e-10)
    assert small_solution.loss[0] == pytest.approx(
        float(small_task.objective(small_lift)), rel=1e-12
    )
    assert small_solution.times[-1] == small_solution.time == 100.0
    assert small_solution.model.graph_hash == small_lift.graph_hash


REFERENCES = ["A_tanh", *(pytest.param(n, marks=pytest.mark.slow) for n in ("A_soft", "B", "C"))]


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_flows_are_reproduced(name):
    reference = problems.reference(name)
    horizon = 10.0 if name.startswith("A") else 1.0
    times = reference.reached([horizon])
    solution = solve(
        problems.Vector(jnp.asarray(reference.theta0)),
        lambda m: reference.loss(m.theta),
        horizon,
        save=times,
        rtol=1e-7,
        atol=1e-9,
    )
    assert reference.error(solution.times, solution.loss) < 2e-6


def test_reference_error_helper_sees_an_error():
    reference = problems.reference("B")
    losses = reference.losses * (1 + 1e-3)
    assert reference.error(reference.times, losses) == pytest.approx(1e-3, rel=1e-9)


def test_resumed_flow_equals_the_direct_one(small_lift, small_task, small_solution):
    first = solve(small_lift, small_task, 10.0, rtol=1e-8, atol=1e-10)
    both = flow.resume(first, 100.0)
    assert both.time == 100.0
    assert both.loss[-1] == pytest.approx(small_solution.loss[-1], rel=1e-6)
    assert np.all(np.diff(both.times) > 0)
    np.testing.assert_allclose(both.loss[0] - both.loss, both.energy, rtol=1e-6, atol=1e-9)
    # Nothing is repeated: the work is that of the direct solve, to a few steps at the seam.
    assert both.stats.gradients < 1.1 * small_solution.stats.gradients + 60
    assert first.time == 10.0


def test_stop_at_a_loss(small_lift, small_task, small_solution):
    threshold = float(np.sqrt(small_solution.loss[0] * small_solution.loss[-1]))
    solution = solve(small_lift, small_task, 100.0, stops=[LossBelow(threshold)])
    assert solution.result == Outcome.LOSS_BELOW
    assert solution.success
    assert solution.loss[-1] <= threshold < solution.loss[-2]
    assert solution.times[-1] == solution.time < 100.0
    # The last stage of an accepted step is the gradient at its end, and the loss comes along.
    assert solution.stats.observation_gradients == len(solution.times)


@pytest.mark.slow
def test_stop_at_a_loss_in_the_graph(small_lift, small_task, small_solution):
    """A leg of diffrax is compiled; there a judgement is a gradient of its own."""
    threshold = float(np.sqrt(small_solution.loss[0] * small_solution.loss[-1]))
    graph = solve(small_lift, small_task, 100.0, stops=[LossBelow(threshold)], engine="graph")
    assert graph.result == Outcome.LOSS_BELOW
    assert graph.stats.observation_gradients > len(graph.times)


def test_stop_at_a_gradient_norm():
    problem, solution = quadratic_flow(stops=[GradientNormBelow(1e-3)])
    assert solution.result == Outcome.GRADIENT_BELOW
    assert solution.gradient_norm[-1] <= 1e-3
    gradient = problem.hessian @ (np.asarray(solution.model.theta) - problem.optimum)
    assert np.linalg.norm(gradient) == pytest.approx(solution.gradient_norm[-1], rel=1e-9)


def test_stop_already_met_at_the_start():
    _, solution = quadratic_flow(stops=[LossBelow(1e6)])
    assert solution.result == Outcome.LOSS_BELOW
    assert solution.time == 0.0
    assert solution.times.tolist() == [0.0]


@pytest.mark.parametrize("solver", ["bdf", pytest.param("kvaerno5", marks=pytest.mark.slow)])
def test_stop_at_stagnation(solver):
    """A loss with a positive minimum stagnates; the verdict is at a save time."""

    def loss(m):
        return jnp.sum(m.theta**2) + 1.0

    stops = [Stagnation(1e-6)]
    solution = solve(problems.Vector(jnp.ones(2)), loss, 1e6, stops=stops, solver=solver)
    assert solution.result == Outcome.STAGNATION
    assert 10 < solution.time < 1e6
    assert solution.loss[-1] == pytest.approx(1.0, rel=1e-6)


def test_budget_is_kept_and_can_be_extended(small_lift, small_task, small_solution):
    solution = solve(small_lift, small_task, 100.0, rtol=1e-8, atol=1e-10, max_gradients=60)
    assert solution.result == Outcome.BUDGET
    assert 60 <= solution.stats.cost < 60 + 7
    assert 0 < solution.time < 100
    assert not solution.success
    assert not solution.result.failed
    assert "raise `max_gradients`" in solution.message
    more = flow.resume(solution, 100.0)
    assert more.loss[-1] == pytest.approx(small_solution.loss[-1], rel=1e-6)


def test_step_limit_keeps_what_was_computed(small_lift, small_task):
    solution = solve(small_lift, small_task, 100.0, rtol=1e-8, max_steps=7)
    assert solution.result == Outcome.STEP_LIMIT
    assert solution.stats.steps == 7
    assert solution.times[-1] == solution.time > 0
    assert np.isfinite(solution.loss).all()
    with pytest.raises(flow.FlowError, match="limit of attempted steps") as error:
        solve(small_lift, small_task, 100.0, rtol=1e-8, max_steps=7, throw=True)
    assert error.value.solution.time == solution.time


@pytest.mark.parametrize("solver", ["tsit5", pytest.param("kvaerno5", marks=pytest.mark.slow)])
def test_nan_on_the_way_is_a_result(solver):
    """L = sqrt(theta - 1) drops to theta = 1 in finite time and is not a number beyond."""

    def loss(m):
        return jnp.sum(jnp.sqrt(m.theta - 1.0))

    solution = solve(problems.Vector(jnp.array([2.0])), loss, 100.0, solver=solver)
    assert solution.result in (Outcome.NON_FINITE, Outcome.TIME_UNDERFLOW)
    assert solution.result.failed
    assert 1.0 < solution.time < 4 / 3 * 1.001
    assert np.isfinite(solution.loss).all()
    # Far from the ten million steps allowed: the singularity is recognised.
    assert solution.stats.steps < 2000
    with pytest.raises(ValueError, match="must not have failed"):
        flow.resume(solution, 200.0)


def test_explosion_is_a_result_not_a_long_wait():
    """L = -theta^4 / 4 escapes to infinity at t = 1/2."""
    solution = solve(problems.Vector(jnp.array([1.0])), lambda m: -jnp.sum(m.theta**4) / 4, 10.0)
    assert solution.result.failed
    assert solution.time == pytest.approx(0.5, rel=1e-3)
    assert solution.loss[-1] < -1e6


def test_nan_at_the_start_is_a_result():
    solution = solve(problems.Vector(jnp.ones(2)), lambda m: jnp.sum(jnp.log(-m.theta)), 1.0)
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == 0.0


# Its root finder and Jacobians take seconds to compile.
KVAERNO5 = pytest.param("kvaerno5", marks=pytest.mark.slow)


@pytest.mark.parametrize("solver", ["tsit5", "dopri8", KVAERNO5])
def test_counts_of_gradients_are_true_counts(solver):
    """Against a host callback in the loss itself, rejected steps and Newton iterations included."""
    calls = []

    @jax.custom_vjp
    def counted(theta):
        return theta

    def forward(theta):
        return theta, None

    def backward(_, cotangent):
        jax.debug.callback(lambda: calls.append(1))
        return (cotangent,)

    counted.defvjp(forward, backward)
    stiff = jnp.array([1.0, 300.0])

    def loss(m):
        theta = counted(m.theta) if solver != "kvaerno5" else m.theta
        return 0.5 * jnp.sum(stiff * theta**2) + 0.1 * jnp.sum(theta**4)

    solution = solve(problems.Vector(jnp.ones(2)), loss, 1.0, solver=solver, save=[0.5])
    jax.effects_barrier()
    assert solution.stats.rejected > 0 or solver == "kvaerno5"
    if solver == "kvaerno5":
        # Six implicit stages of at least two Newton iterations per step, and two Jacobians of four
        # columns: diffrax makes one for the first stage too, whose equation is explicit.
        assert solution.stats.gradients >= 12 * solution.stats.steps
        assert solution.stats.hvps == 2 * 4 * solution.stats.steps
    else:
        assert solution.stats.gradients + solution.stats.observation_gradients == len(calls)


def test_snapshots_are_the_flow_at_their_times():
    problem, solution = quadratic_flow(snapshots=[1.0, 30.0], rtol=1e-9, atol=1e-12)
    assert list(solution.snapshots) == [1.0, 30.0]
    for t, model in solution.snapshots.items():
        np.testing.assert_allclose(model.theta, problem.theta(t), atol=1e-8)


def test_any_equinox_model_and_a_custom_loss():
    mlp = eqx.nn.MLP(3, "scalar", 8, 1, key=jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((10, 3))
    task = tasks.supervised(x, np.sin(x[:, 0]), lambda y, t: jnp.logaddexp(y - t, t - y))
    solution = solve(mlp, task, 5.0)
    assert solution.success
    assert solution.loss[-1] < solution.loss[0]
    assert isinstance(solution.model, eqx.nn.MLP)
    assert solution.model.activation is mlp.activation


def test_frozen_leaves_do_not_move(small_lift, small_task):
    mask = jax.tree.map(lambda _: False, small_lift)
    mask = eqx.tree_at(lambda m: m.weights["h2->y"], mask, True)
    solution = solve(small_lift, small_task, 1.0, trainable=mask)
    np.testing.assert_array_equal(solution.model.weights["x->h1"], small_lift.weights["x->h1"])
    assert np.abs(solution.model.weights["h2->y"] - small_lift.weights["h2->y"]).max() > 1e-3


@pytest.mark.parametrize(
    ("solver", "rtol"), [("tsit5", 1e-5), pytest.param("kvaerno5", 1e-4, marks=pytest.mark.slow)]
)
def test_float32_flow_follows_the_float64_one(small_lift, small_task, small_solution, solver, rtol):
    """Newton's own rounding disturbs an implicit error estimate below 1e-4."""
    until = np.flatnonzero(small_solution.times < 1.0)[-1] + 1
    solution = solve(
        small_lift,
        small_task,
        small_solution.times[until - 1],
        solver=solver,
        rtol=rtol,
        atol=1e-2 * rtol,
        save=small_solution.times[until - 9 : until],
        precision="float32",
    )
    assert solution.success
    assert solution.model.weights["x->h1"].dtype == jnp.float32
    np.testing.assert_allclose(
        solution.loss[1:], small_solution.loss[until - 9 : until], rtol=10 * rtol
    )


def test_float32_time_does_not_stall():
    """1e7 time units in steps of 3: float32 time itself would stop at 1.7e7 / 2."""
    problem = problems.Vector(jnp.ones(1))
    solution = solve(
        problem,
        lambda m: 0.5e-7 * jnp.sum(m.theta**2),
        1e8,
        precision="float32",
        rtol=1e-5,
        save=LogTimes(1, start=1e6),
    )
    np.testing.assert_allclose(
        solution.loss, 0.5e-7 * np.exp(-2e-7 * solution.times), rtol=1e-3, atol=1e-14
    )


def test_one_compilation_serves_seeds_tolerances_horizons_and_thresholds(small_task):
    traces = []
    module = modules.mlp(3, 2, depth=2)

    def run(seed, horizon, rtol, threshold):
        lift = sample(module, copies=20, edges=BernoulliInDegree(3), seed=seed)
        return solve(lift, task, horizon, rtol=rtol, stops=[LossBelow(threshold)])

    def ell(y, t):
        traces.append(1)
        return jnp.sum((y - t) ** 2)

    data = small_task.objective
    task = tasks.supervised(data.inputs, data.targets, ell)
    run(0, 1.0, 1e-4, 1e-3)
    compiled = len(traces)
    for seed, horizon, rtol, threshold in [(1, 1.0, 1e-4, 1e-3), (2, 3.0, 1e-6, 1e-9)]:
        before = len(traces)
        run(seed, horizon, rtol, threshold)
        # The shapes of a new model are checked by an abstract evaluation, nothing is compiled.
        assert len(traces) - before <= 1
    assert compiled > 1


def test_all_legs_of_a_flow_share_one_compilation():
    def traces_of(save):
        traces = []

        def loss(m):
            traces.append(1)
            return jnp.sum(m.theta**2)

        start = problems.Vector(jnp.ones(2))
        solution = solve(start, loss, 1.0, solver="tsit5", save=save, engine="graph")
        return solution, len(traces)

    one, once = traces_of([])
    many, several = traces_of([0.1, 0.2, 0.4, 0.8])
    assert one.stats.legs < many.stats.legs <= 5
    assert several == once


def test_same_arguments_same_bits(small_lift, small_task):
    first, second = (solve(small_lift, small_task, 5.0) for _ in range(2))
    np.testing.assert_array_equal(first.loss, second.loss)
    for a, b in zip(jax.tree.leaves(first.model), jax.tree.leaves(second.model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_multiplying_the_loss_divides_the_time():
    problem = problems.Quadratic.draw(3, 10.0)
    model = problems.Vector(jnp.asarray(problem.start))
    slow = solve(model, problem, 6.0, rtol=1e-9, atol=1e-12)
    fast = solve(model, lambda m: 3 * problem(m), 2.0, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fast.model.theta, slow.model.theta, atol=1e-8)


GOOD = {
    "model": problems.Vector(jnp.ones(2)),
    "task": lambda m: jnp.sum(m.theta**2),
    "horizon": 1.0,
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0.0}, "`horizon` must be a positive finite flow time, but is 0.0"),
        ({"horizon": -1}, "`horizon` must be a positive"),
        ({"horizon": math.inf}, "`horizon` must be a positive"),
        ({"rtol": -1e-6}, "`rtol` must be a finite number of at least"),
        ({"rtol": 1e-17}, "`rtol` must be a finite number of at least 8.9e-16"),
        ({"rtol": 1e-7, "precision": "float32"}, "at least 4.8e-07 in float32"),
        ({"atol": float("nan")}, "`atol` must be a finite number"),
        ({"solver": "tsit6"}, "one of tsit5, "),
        ({"solver": __import__("diffrax").Euler()}, "must be an adaptive diffrax solver"),
        ({"save": [0.5, 0.1]}, "`save` must hold increasing times"),
        ({"save": [0.5, 2.0]}, "`save` must hold increasing times"),
        ({"save": LogTimes(start=2.0)}, "`start` of LogTimes must lie between"),
        ({"stops": [0.1]}, "`stops` must hold stopping rules"),
        ({"stops": [LossBelow(1.0), LossBelow(2.0)]}, "one rule of a kind"),
        ({"solver": RKC2(root_finder=optx.Newton(1e-3, 1e-3))}, "must leave `root_finder` out"),
        ({"max_gradients": 0}, "`max_gradients` must be positive"),
        ({"max_steps": 0}, "`max_steps` must be an integer from 1 to 2.53, but is 0"),
        ({"max_steps": 10**26}, "`max_steps` must be an integer from 1 to 2.53, but is 1000"),
        ({"precision": "half"}, "`precision` must be one of"),
        ({"model": problems.Vector(jnp.array([1.0, np.nan]))}, r"leaf .theta is not"),
        ({"model": problems.Vector(jnp.arange(3))}, "must have trainable floating-point arrays"),
        ({"task": lambda m: m.theta}, "must return one real floating-point number"),
        ({"task": 3}, "`task` must be a Task, an objective or a callable"),
    ],
)
def test_bad_arguments_are_refused_before_any_computation(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        solve(**(GOOD | arguments))
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossBelow(math.nan),
        lambda: LossBelow(-math.inf),
        lambda: GradientNormBelow(0.0),
        lambda: GradientNormBelow(-1.0),
        lambda: Stagnation(1e-3, factor=1.0),
        lambda: LogTimes(0),
    ],
)
def test_meaningless_rules_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_outputs_that_do_not_fit_the_targets_are_refused(small_lift):
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"outputs of the targets' shape \(4,\), but has \(4, 2\)"):
        solve(small_lift, tasks.supervised(x, np.zeros(4)), 1.0)
    with pytest.raises(ValueError, match="logits of shape"):
        solve(small_lift, tasks.supervised(x, np.zeros((4, 3)), "cross-entropy"), 1.0)


def test_float64_without_x64_is_refused_with_the_remedy(tmp_path):
    import os
    import subprocess
    import sys

    code = (
        "import jax.numpy as jnp, flowlift\n"
        "try: flowlift.solve([jnp.ones(2)], lambda m: jnp.sum(m[0]**2), 1.0)\n"
        "except ValueError as error: print(error)\n"
        "s = flowlift.solve([jnp.ones(2)], lambda m: jnp.sum(m[0]**2), 1.0, precision='float32')\n"
        "print(s.result, s.model[0].dtype)\n"
    )
    environment = os.environ | {"JAX_ENABLE_X64": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        cwd=tmp_path,
    )
    assert "call jax.config.update('jax_enable_x64', True)" in done.stdout
    assert "horizon float32" in done.stdout
