"""Graphs that change: which edges leave and enter, what L and the energy do, what is compiled."""

import jax
import numpy as np
import pytest

import flowlift
from flowlift import flow, lift, modules, tasks
from flowlift.flow import checkpoint_files
from flowlift.flow.engine import Engine
from flowlift.flow.rewiring import absent_at_random, slopes_of_pairs
from flowlift.flow.writings import Writings

X = np.random.default_rng(0).standard_normal((24, 3))
TASK = tasks.supervised(X, np.sin(2 * X[:, 0]) * X[:, 1])
INNER = "h1->h2"


def net(law=None, *, seed=0, copies=6, precision="float64", depth=2):
    module = modules.mlp(3, depth=depth)
    weights = dict.fromkeys(module.edge_by_name, lift.Gaussian(0.7))
    return flowlift.sample(
        module, copies=copies, edges=law or lift.FixedInDegree(2), weights=weights, seed=seed,
        precision=precision,
    )  # fmt: skip


BERNOULLI = lift.BernoulliInDegree(2.0)
# A sibling: the layout of its start alone differs.
LAWS = [BERNOULLI, pytest.param(lift.FixedInDegree(2), marks=pytest.mark.slow)]


def dense(model, name=INNER):
    """The matrix of a base edge's weights, NaN where there is no edge."""
    fibre = model.fibres[name]
    matrix = np.full((fibre.n_targets, fibre.n_sources), np.nan)
    sources, targets, weights = model.edges(name)
    matrix[targets, sources] = weights
    return matrix


def dense_loss(model, matrix):
    """L of the network with any matrix between its hidden layers, in NumPy."""
    names = ("x->h1", "1->h1", "1->h2", "h2->y", "1->y")
    w1, b1, b2, out, b3 = (np.asarray(model.weights[name]) for name in names)
    h1 = np.tanh(X @ w1.T + b1)
    h2 = np.tanh(h1 @ np.nan_to_num(matrix).T + b2)
    return float(np.mean((h2 @ out + b3 - np.asarray(TASK.objective.targets)) ** 2))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("grow", ["gradient", pytest.param("random", marks=pytest.mark.slow)])
def test_the_smallest_leave_and_as_many_enter_at_zero(law, grow):
    model = net(law)
    new, changes = flow.rewire(model, TASK, drop=0.4, grow=grow, seed=3)
    assert list(changes) == [INNER]
    before, after, change = dense(model), dense(new), changes[INNER]
    count = int(0.4 * np.isfinite(before).sum())
    assert np.isfinite(after).sum() == np.isfinite(before).sum()
    # Dropped are the smallest of all.
    left = np.sort(np.abs(before[np.isfinite(before)]))
    np.testing.assert_array_equal(change.magnitudes, left[:count])
    np.testing.assert_array_equal(
        np.abs(before[change.dropped[1], change.dropped[0]]), change.magnitudes
    )
    # What stayed has its weight, what entered has none.
    pruned = before.copy()
    pruned[change.dropped[1], change.dropped[0]] = np.nan
    assert np.isnan(pruned[change.grown[1], change.grown[0]]).all()
    expected = pruned.copy()
    expected[change.grown[1], change.grown[0]] = 0
    np.testing.assert_array_equal(after, expected)
    assert len({tuple(edge) for edge in change.grown.T}) == count
    assert new.graph_hash != model.graph_hash
    # L does not change by growth.
    assert float(TASK.objective(new)) == pytest.approx(dense_loss(model, pruned), rel=1e-13)


def test_the_steepest_absent_pairs_grow():
    """Against differences of L of the dense network, pair by pair."""
    model = net(BERNOULLI, seed=1)
    _, changes = flow.rewire(model, TASK, drop=0.5, grow="gradient", seed=0)
    change, matrix = changes[INNER], dense(model)
    matrix[change.dropped[1], change.dropped[0]] = np.nan
    slopes = np.zeros_like(matrix)
    for place in np.ndindex(*matrix.shape):
        up, down = np.nan_to_num(matrix), np.nan_to_num(matrix)
        up[place] += 1e-5
        down[place] -= 1e-5
        slopes[place] = abs(dense_loss(model, up) - dense_loss(model, down)) / 2e-5
    absent = np.where(np.isnan(matrix), slopes, -1)
    largest = np.sort(absent.ravel())[::-1][: len(change.slopes)]
    np.testing.assert_allclose(change.slopes, largest, rtol=1e-5, atol=1e-9)
    found = slopes[change.grown[1], change.grown[0]]
    np.testing.assert_allclose(found, change.slopes, rtol=1e-5, atol=1e-9)


def test_slopes_of_pairs_are_the_gradient_where_there_are_edges():
    model = net(BERNOULLI)
    gradient = jax.jit(jax.grad(lambda w: TASK.objective(_with_weights(model, w))))(model.weights)
    slopes = slopes_of_pairs(model, TASK, (INNER,))[INNER].reshape(6, 6)
    sources, targets, _ = model.edges(INNER)
    found = np.abs(gradient[INNER])[: len(sources)]
    np.testing.assert_allclose(slopes[targets, sources], found, rtol=1e-12)


def _with_weights(model, weights):
    return flowlift.lift.Lift(
        weights, model.fibres, model.seed, model.digest, model.module, model.sizes, model.method
    )


@pytest.fixture(scope="module")
def run():
    return flow.solve_rewired(
        net(BERNOULLI), TASK, 6.0, times=[1.0, 2.5], drop=[0.5, 0.25],
        grow="gradient", seed=0, solver="tsit5", rtol=1e-9, atol=1e-12,
        observers={"norm": lambda m: sum((w**2).sum() for w in m.weights.values())},
    )  # fmt: skip


def test_the_energy_identity_holds_in_every_leg_and_over_all(run):
    assert len(run.legs) == 3
    for leg in run.legs:
        np.testing.assert_allclose(leg.loss[0] - leg.loss, leg.energy, rtol=1e-6, atol=1e-9)
        assert (np.diff(leg.loss) <= 1e-12).all()
    jumps = np.append(0, run.jumps)
    known = run.energy - np.cumsum(jumps)[run.leg]
    np.testing.assert_allclose(run.loss[0] - run.loss, known, rtol=1e-6, atol=1e-9)
    assert (np.diff(run.energy) >= 0).all()
    assert (np.diff(run.arc_length) >= 0).all()


def test_records_are_joined_with_both_sides_of_a_rewiring(run):
    assert run.starts == (0.0, 1.0, 2.5)
    assert (np.diff(run.times) >= 0).all()
    twice = run.times[1:][np.diff(run.times) == 0]
    np.testing.assert_array_equal(twice, [1.0, 2.5])
    assert run.times[0] == 0
    assert run.times[-1] == 6
    np.testing.assert_array_equal(np.unique(run.leg), [0, 1, 2])
    assert run.observations["norm"].shape == run.times.shape
    assert run.stats.gradients == sum(leg.stats.gradients for leg in run.legs)
    assert run.result == flow.Outcome.HORIZON
    assert run.model is run.legs[-1].model


def test_growth_is_continuous_and_a_jump_is_the_pruning(run):
    for before, after, changes in zip(run.legs, run.legs[1:], run.changes, strict=False):
        matrix = dense(before.model)
        dropped = changes[INNER].dropped
        matrix[dropped[1], dropped[0]] = np.nan
        assert after.loss[0] == pytest.approx(dense_loss(before.model, matrix), rel=1e-13)


def test_the_history_of_the_graph_is_kept(run):
    edges = {model.n_edges for model in [leg.model for leg in run.legs]}
    assert len(edges) == 1
    sources, targets, born, died = run.lifetimes(INNER)
    for leg, start in zip(run.legs, run.starts, strict=True):
        alive = (born <= start) & (died > start)
        held = set(zip(sources[alive].tolist(), targets[alive].tolist(), strict=True))
        a, b, _ = leg.model.edges(INNER)
        assert held == set(zip(a.tolist(), b.tolist(), strict=True))
        assert alive.sum() == len(a)
    count = int(run.legs[0].model.fibres[INNER].count)
    assert np.sum(born == 1.0) == np.sum(died == 1.0) == count // 2
    assert np.sum(born == 2.5) == np.sum(died == 2.5) == int(0.25 * count)


def test_the_distance_is_that_of_all_pairs(run):
    """Against matrices with a zero where there is no edge."""
    first = net(BERNOULLI)
    for leg, number in zip(run.legs, range(len(run.legs)), strict=True):
        squares = np.sum((np.nan_to_num(dense(leg.model)) - np.nan_to_num(dense(first))) ** 2)
        for name in set(first.weights) - {INNER}:
            squares += np.sum(np.square(leg.model.weights[name] - first.weights[name]))
        last = np.flatnonzero(run.leg == number)[-1]
        assert run.distance[last] == pytest.approx(np.sqrt(squares), rel=1e-6)
    assert run.distance[0] == 0


def test_the_solution_has_one_record_a_time_and_of_a_rewiring_the_one_before(run):
    found = run.solution
    assert (np.diff(found.times) > 0).all()
    for before, start in zip(run.legs, run.starts[1:], strict=False):
        at = int(np.flatnonzero(found.times == start)[0])
        assert found.loss[at] == before.loss[-1]
        assert found.gradient_norm[at] == before.gradient_norm[-1]
    np.testing.assert_array_equal(np.unique(run.times), found.times)
    assert found.energy[-1] == run.energy[-1] == sum(leg.energy[-1] for leg in run.legs)
    assert found.errors["energy"][-1] == sum(leg.errors["energy"][-1] for leg in run.legs)
    assert found.observations.keys() == {"norm"}
    assert found.model is run.legs[-1].model
    assert found.solvers == ("tsit5",)


def test_times_are_those_asked_for_to_the_bit(run):
    asked = np.append(0.0, flow.LogTimes().times(6.0))
    assert set(asked) <= set(run.times)
    assert set(run.times) - set(asked) == {1.0, 2.5} - set(asked)


@pytest.mark.parametrize("law", LAWS)
def test_later_legs_compile_nothing(law):
    compiled = []

    def listen(event, duration, **_):
        compiled.extend([event] * (event == "/jax/core/compile/backend_compile_duration"))

    model = net(law, copies=7)
    given = {"grow": "gradient", "drop": 0.3, "seed": 0, "solver": "tsit5", "rtol": 1e-3}
    flow.solve_rewired(model, TASK, 1.0, times=[0.5], **given)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        flow.solve_rewired(model, TASK, 2.0, times=[0.2, 0.3, 0.7, 1.5], **given)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


@pytest.mark.slow  # Two flows of their own shapes.
@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_same_seed_gives_the_same_bits_and_another_another_graph(grow, precision):
    model = net(lift.FixedInDegree(2), copies=12, precision=precision)
    task = tasks.supervised(X.astype(precision), np.asarray(TASK.objective.targets, precision))
    runs = [
        flow.solve_rewired(
            model, task, 2.0, times=[0.5, 1.0], drop=0.5, grow=grow, seed=seed,
            precision=precision, solver="tsit5", rtol=1e-4,
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    np.testing.assert_array_equal(runs[0].loss, runs[1].loss)
    hashes = [[leg.model.graph_hash for leg in run.legs] for run in runs]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 3
    assert (hashes[0] == hashes[2]) == (grow == "gradient")
    assert all(w.dtype == precision for w in runs[0].model.weights.values())


@pytest.mark.parametrize("taken", [np.array([0, 3, 4]), np.array([*range(25), 29])])
def test_random_pairs_are_uniform_among_the_absent(taken):
    """Each of the absent numbers below 30 is drawn equally often, within 5 standard deviations."""
    rng, count, turns = np.random.default_rng(0), 3, 1000
    drawn = [absent_at_random(30, taken, count, rng) for _ in range(turns)]
    assert all(len(set(one.tolist())) == count for one in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=30)
    assert (often[taken] == 0).all()
    share = count / (30 - len(taken))
    deviation = np.sqrt(turns * share * (1 - share))
    assert np.abs(np.delete(often, taken) - turns * share).max() < 5 * deviation


@pytest.mark.slow  # A convolution's program.
def test_kernels_on_edges_leave_by_their_norm():
    module = modules.cnn1d(8, channels=1, kernel=3, depth=2)
    model = flowlift.sample(module, copies=6, edges=lift.FixedInDegree(2), seed=0)
    x = np.random.default_rng(1).standard_normal((5, 1, 8))
    task = tasks.supervised(x, x[:, 0, 0])
    name = next(iter(lift.rewirable(model)))
    _, changes = flow.rewire(model, task, drop=0.5, grow="gradient", seed=0)
    weights = model.edges(name)[2]
    norms = np.sort(np.linalg.norm(weights.reshape(len(weights), -1), axis=1))
    np.testing.assert_allclose(changes[name].magnitudes, norms[: len(norms) // 2], rtol=1e-14)


@pytest.mark.slow  # Rates make programs of their own.
def test_the_energy_identity_holds_with_rates():
    run = flow.solve_rewired(
        net(), TASK, 2.0, times=[0.7], drop=0.5, grow="gradient", seed=0, solver="tsit5",
        rtol=1e-9, atol=1e-12, rates={INNER: 3.0, "*": 0.5},
    )  # fmt: skip
    known = run.energy - np.append(0, run.jumps)[run.leg]
    np.testing.assert_allclose(run.loss[0] - run.loss, known, rtol=1e-6, atol=1e-9)


class Killed(BaseException):
    """Nothing in the flow may catch it."""


GIVEN = {"times": [0.4, 0.8], "drop": 0.3, "grow": "random", "seed": 1, "rtol": 1e-6}


@pytest.mark.slow  # six legs
def test_snapshots_and_held_out_losses_are_those_of_the_legs():
    further = tasks.supervised(X, TASK.objective.targets, held_out=(X[:5], np.zeros(5)))
    task = tasks.with_decay(further, 0.1)
    found = flow.solve_rewired(net(), task, 1.2, snapshots=[0.0, 0.4, 0.6, 1.2], **GIVEN)
    assert list(found.snapshots) == [0.0, 0.4, 0.6, 1.2]
    for time, model in found.snapshots.items():
        # Of the two records at a rewiring the first.
        at = int(np.flatnonzero(found.times == time)[0])
        assert float(task.objective(model)) == pytest.approx(found.loss[at], rel=1e-12)
        assert float(task.held_out(model)) == pytest.approx(found.held_out_loss[at], rel=1e-12)
    gap = found.energy[-1] - (found.loss[0] - found.loss[-1] + found.jumps.sum())
    assert abs(gap) < 1e-3 * found.loss[0]


@pytest.mark.slow  # Three flows of three legs each.
def test_a_killed_flow_goes_on_with_the_same_bits(tmp_path):
    path, seen = tmp_path / "flow.npz", []
    whole = flow.solve_rewired(net(), TASK, 1.2, **GIVEN)

    def kill(_):
        seen.append(0)
        if len(seen) == 2:
            raise Killed

    dying = flow.Checkpoints(path, 0.0, on_leg=kill)
    with pytest.raises(Killed):
        flow.solve_rewired(net(), TASK, 1.2, checkpoints=dying, **GIVEN)
    again = flow.solve_rewired(net(), TASK, 1.2, checkpoints=flow.Checkpoints(path), **GIVEN)
    for name in ("times", "loss", "gradient_norm", "arc_length", "energy", "leg"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name), err_msg=name)
    for one, other in zip(again.lifetimes(INNER), whole.lifetimes(INNER), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow  # Two flows of four legs each.
def test_a_finished_leg_is_not_computed_again(tmp_path, monkeypatch):
    given = GIVEN | {"times": [0.2, 0.4, 0.8]}
    path, calls = tmp_path / "flow.npz", []
    whole = flow.solve_rewired(net(), TASK, 1.2, checkpoints=flow.Checkpoints(path, 0.0), **given)
    assert [p.name for p in checkpoint_files.leg_paths(path)] == [f"flow.{i}.npz" for i in range(4)]
    leg = Engine.leg
    monkeypatch.setattr(Engine, "leg", lambda *each: calls.append(0) or leg(*each))
    again = flow.solve_rewired(net(), TASK, 1.2, checkpoints=flow.Checkpoints(path), **given)
    assert calls == []
    for name in ("times", "loss", "distance", "energy"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name), err_msg=name)
    assert again.model.graph_hash == whole.model.graph_hash


def test_files_of_finished_legs_are_written_before_the_next_one():
    written, writings = [], Writings(3600.0)
    writings.later(lambda: written.append("leg 0"))
    writings.later(lambda: written.append("leg 1"))
    assert not written
    writings.write(lambda: written.append("leg 2"))
    writings.write(lambda: written.append("leg 2 again"))
    assert written == ["leg 0", "leg 1", "leg 2", "leg 2 again"]
    at_once = Writings(0.0)
    at_once.later(lambda: written.append("at once"))
    assert written[-1] == "at once"


def test_a_spent_budget_or_a_rule_ends_the_flow_in_its_leg():
    given = {"times": [0.5, 1.0], "drop": 0.3, "grow": "random", "seed": 0, "solver": "tsit5"}
    short = flow.solve_rewired(net(BERNOULLI), TASK, 2.0, max_gradients=40, **given)
    assert short.result == flow.Outcome.BUDGET
    assert short.stats.gradients <= 40 + 7
    high = float(TASK.objective(net(BERNOULLI)))
    ruled = flow.solve_rewired(net(BERNOULLI), TASK, 2.0, stops=[flow.LossBelow(2 * high)], **given)
    assert ruled.result == flow.Outcome.LOSS_BELOW
    assert len(ruled.legs) == 1
    assert ruled.changes == ()


# As many as the first leg takes: what the last allowed one reaches is reached.
@pytest.mark.slow  # Two legs.
def test_a_share_of_less_than_an_edge_changes_nothing():
    given = {"times": [0.5, 0.8], "grow": "gradient", "seed": 0, "solver": "tsit5"}
    found = flow.solve_rewired(net(BERNOULLI), TASK, 1.0, drop=[0.3, 1e-3], **given)
    assert found.changes[1][INNER].grown.size == 0
    assert found.jumps[1] == 0
    assert found.legs[1].model.graph_hash == found.legs[2].model.graph_hash


@pytest.mark.slow  # Two flows each.
@pytest.mark.parametrize("limit", ["max_gradients", "max_steps"])
def test_a_limit_that_is_spent_at_a_rewiring_ends_the_flow_there(limit):
    given = {"times": [0.5], "drop": 0.3, "grow": "random", "seed": 0, "solver": "tsit5"}
    free = flow.solve_rewired(net(BERNOULLI), TASK, 1.0, **given)
    work = free.legs[0].stats
    spent = {"max_gradients": work.cost, "max_steps": work.steps}[limit]
    found = flow.solve_rewired(net(BERNOULLI), TASK, 1.0, **given, **{limit: spent})
    expected = {"max_gradients": flow.Outcome.BUDGET, "max_steps": flow.Outcome.STEP_LIMIT}
    assert found.result == found.solution.result == expected[limit]
    assert found.times[-1] == 0.5
    assert len(found.legs) == 1


@pytest.mark.slow  # What is frozen makes programs of its own.
def test_what_is_frozen_stays_and_is_not_rewired():
    given = {"times": [0.5], "drop": 0.3, "grow": "random", "seed": 0, "solver": "tsit5"}
    model = net(BERNOULLI)
    found = flow.solve_rewired(model, TASK, 1.0, frozen=["x->h1"], **given)
    assert (found.model.weights["x->h1"] == model.weights["x->h1"]).all()
    assert (found.model.weights["1->h1"] != model.weights["1->h1"]).any()
    assert list(found.changes[0]) == [INNER]


GOOD = {"times": [0.5], "drop": 0.3, "grow": "random", "seed": 0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grow": "magnitude"}, "`grow` must be one of gradient, random"),
        ({"drop": 1.0}, "`drop` must be a fraction above 0 and below 1"),
        ({"drop": 1e-3}, "that drops an edge, but is 0.001"),
        ({"drop": [0.1, 0.2]}, "or one for each of 1 times"),
        ({"drop": None}, "or one for each of 1 times"),
        ({"drop": "half"}, "or one for each of 1 times"),
        ({"times": 0.5}, "`times` must hold increasing flow times"),
        ({"edges": "h1->h2"}, "`edges` must name base edges that are sparse"),
        ({"times": []}, "`times` must hold increasing times between 0 and the horizon"),
        ({"times": [0.0]}, "leave out both ends"),
        ({"times": [1.0]}, "leave out both ends"),
        ({"times": [0.6, 0.4]}, "`times` must hold increasing times"),
        ({"edges": ["x->h1"]}, "`edges` must name base edges that are sparse"),
        ({"edges": []}, "`edges` must name base edges that are sparse"),
        ({"snapshots": [1.1]}, "`snapshots` must hold times from 0 to the horizon"),
        ({"trainable": None}, "`trainable` must be left out"),
        ({"dynamics": flow.HeavyBall(1.0)}, "the velocity or the averages of an edge that grows"),
        ({"solvr": "tsit5"}, "must be among solver, rtol"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"frozen": [INNER]}, "`edges` must name base edges that flow, but 'h1->h2' is frozen"),
        ({"frozen": ["h7"]}, "`frozen` must name trainable leaves of the model, but 'h7' names"),
        ({"observers": [1]}, "`observers` must be a mapping from names"),
        ({"observers": {"distance over all legs": abs}}, "must not have the name 'distance over"),
        ({"rates": {INNER: 0.0}}, "`rates` must be positive where edges grow from 0, but is 0 for"),
    ],
)
def test_rewirings_without_sense_are_refused_in_one_sentence(given, message):
    with pytest.raises(ValueError, match=message) as error:
        flow.solve_rewired(net(), TASK, 1.0, **(GOOD | given))
    assert "\n" not in str(error.value)


def test_models_that_cannot_change_are_refused():
    with pytest.raises(ValueError, match="`model` must be a lift"):
        flow.solve_rewired(lambda x: x, TASK, 1.0, **GOOD)
    with pytest.raises(ValueError, match="`edges` must name base edges that are sparse"):
        flow.solve_rewired(net(lift.Complete()), TASK, 1.0, **GOOD)
    with pytest.raises(ValueError, match="`horizon` must be a positive"):
        flow.solve_rewired(net(), TASK, 0.0, **GOOD)
