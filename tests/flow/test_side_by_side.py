"""Flows side by side: each is what it is alone, whoever shares the program."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import FixedInDegree, flow, modules, sample, tasks
from flowlift.flow import LossBelow, Outcome, side_by_side
from flowlift.flow.abreast import abreast
from flowlift.flow.chunking import bytes_per_sample
from flowlift.flow.dynamics import HeavyBall
from flowlift.flow.ensemble import batched
from flowlift.flow.side_by_side import Ensemble

TRAINABLE = {"theta": True, "stiff": False}
PLAIN = {"solver": "tsit5", "rtol": 1e-4, "trainable": TRAINABLE}
# Explicit steps of 63 of them take as many attempts as those of the last one.
STIFFNESS = [*np.linspace(1.0, 2.0, 63), 300.0]


def member(stiff):
    return {"theta": jnp.array([1.0, 1.0]), "stiff": jnp.array([1.0, stiff])}


def loss(m):
    return 0.5 * jnp.sum(m["stiff"] * m["theta"] ** 2)


def in_lanes(stiffness, width=8, last_alone=False, horizon=2.0, **options):
    """Solutions, and the ensemble, all of whose flows stay in lanes unless they need not."""
    models = (member(stiff) for stiff in stiffness)
    _, flows = batched(models, loss, horizon, width, **PLAIN | options)
    ensemble = Ensemble(width, last_alone)
    return list(ensemble.run(flows)), ensemble


def assert_equal(one, other):
    assert one.result == other.result
    assert one.stats.steps == other.stats.steps
    np.testing.assert_array_equal(one.model["theta"], other.model["theta"])
    for name in ("times", "loss", "gradient_norm", "arc_length", "energy"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.slow  # A program of lanes takes seconds to compile.
def test_lanes_that_never_had_a_flow_rest_where_the_first_one_began(monkeypatch):
    """From zeros inner loops end at their limits: four of eight lanes at rest cost tenfold."""
    carries = []

    def seen(*options):
        def run(*given):
            answer = abreast(*options)(*given)
            carries.append(answer[0])
            return answer

        return run

    monkeypatch.setattr(side_by_side, "abreast", seen)
    ((solution,), _) = in_lanes([50.0], width=3, solver="bdf")
    assert solution.result == Outcome.HORIZON
    for carry in carries:
        np.testing.assert_array_equal(carry.state[0][1:, 0], [1.0, 1.0])


@pytest.mark.slow  # 64 flows, twice.
def test_one_hard_flow_among_easy_ones_costs_the_sum_of_their_steps():
    """In lock step all lanes would take the steps of the hard one: eleven times as many."""
    solutions, ensemble = in_lanes(STIFFNESS, last_alone=True, save=[1.0, 2.0])
    own = sum(solution.stats.steps for solution in solutions)
    assert ensemble.work < 1.3 * own
    for stiff, solution in zip(STIFFNESS, solutions, strict=True):
        assert solution.result == Outcome.HORIZON
        exact = np.exp(-2.0 * np.array([1.0, stiff]))
        np.testing.assert_allclose(solution.model["theta"], exact, atol=1e-3)


@pytest.mark.slow  # A program of lanes takes two seconds to compile.
@pytest.mark.parametrize("solver", ["tsit5", "rkc2", "bdf"])
def test_numbers_do_not_depend_on_who_shares_the_program(solver):
    """To the last bit: in another order, with others, and with fewer of them than lanes."""
    stiffness = [1.0, 30.0, 2.0, 5.0, 1.5]
    options = {"solver": solver, "save": [0.7, 2.0], "width": 3}
    together, _ = in_lanes(stiffness, **options)
    backwards, _ = in_lanes(stiffness[::-1], **options)
    few, _ = in_lanes(stiffness[1:2], **options)
    for one, other in zip(together, backwards[::-1], strict=True):
        assert_equal(one, other)
    assert_equal(together[1], few[0])


@pytest.mark.slow  # A program of lanes and one by itself for each solver.
@pytest.mark.parametrize("solver", ["tsit5", "dopri8", "rkc2", "bdf", "kvaerno5", "auto"])
def test_side_by_side_is_one_by_one(solver):
    """Lifts of one size; a solver that has no lanes runs by itself in between."""
    module = modules.mlp(inputs=2, depth=1)
    lifts = [sample(module, copies=4, edges=FixedInDegree(2), seed=s) for s in range(5)]
    task = tasks.periodic({1: 1.0}, samples=8)
    options = {"solver": solver, "rtol": 1e-5, "snapshots": [1.0]}
    together = list(flow.solve_each(lifts, task, 5.0, batch=2, **options))
    alone = list(flow.solve_each(lifts, task, 5.0, engine="graph", **options))
    for one, other in zip(together, alone, strict=True):
        assert one.result == other.result == Outcome.HORIZON
        assert one.solvers == other.solvers
        assert one.engine == "graph"
        # Rounding of another program, which a step or two may see.
        assert abs(one.stats.steps - other.stats.steps) <= 2
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
        np.testing.assert_array_equal(one.times, other.times)
        assert one.snapshots.keys() == other.snapshots.keys()


@pytest.mark.slow  # Programs of their own.
def test_each_has_its_own_end():
    """A threshold that some meet, a budget that one spends; in the order of the models."""
    stiffness = [1.0, 200.0, 3.0]
    stops = (LossBelow(0.01),)
    solutions, _ = in_lanes(stiffness, width=2, stops=stops, max_gradients=300, horizon=4.0)
    assert [s.result for s in solutions] == [Outcome.LOSS_BELOW, Outcome.BUDGET, Outcome.LOSS_BELOW]
    for solution in solutions[::2]:
        assert solution.loss[-1] <= 0.01 < solution.loss[-2]


@pytest.mark.slow  # Programs of their own.
def test_a_member_that_fails_stops_nobody_beside_it():
    def singular(m):
        return jnp.sum(jnp.sqrt(m["theta"] - 1.0))

    starts = [{"theta": jnp.full(2, start)} for start in (2.0, 1e4, 3.0)]
    solutions = list(flow.solve_each(starts, singular, 100.0, solver="rkc2", batch=2))
    assert [s.result.failed for s in solutions] == [True, False, True]


@pytest.mark.slow  # Programs of their own.
@pytest.mark.parametrize(
    "options",
    [
        {"precision": "float32"},
        {"observers": {"first": lambda m: m["theta"][0]}},
        {"rates": {"theta": 0.5}},
        {"dynamics": HeavyBall(1.0)},
        {"stops": (flow.Stagnation(0.5),)},
        {"max_steps": 3},
        {"save": np.linspace(0.01, 2.0, 150).tolist()},
    ],
    ids=["float32", "observers", "rates", "dynamics", "stagnation", "max_steps", "save"],
)
def test_what_solve_takes_a_batch_takes(options):
    stiffness = [1.0, 4.0, 2.0]
    together, _ = in_lanes(stiffness, width=2, **options)
    for stiff, one in zip(stiffness, together, strict=True):
        other = flow.solve(member(stiff), loss, 2.0, **PLAIN | options, engine="graph")
        assert one.result == other.result
        assert one.precision == other.precision
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
        for name, values in other.observations.items():
            np.testing.assert_allclose(one.observations[name], values, rtol=1e-4)


@pytest.mark.slow  # Programs of their own.
def test_held_out_data_decay_and_chunks_of_samples_work_in_a_batch():
    """Labels, so that accuracies are recorded too; seven samples in chunks of two."""
    rng = np.random.default_rng(0)
    apply = lambda m, x: jnp.tanh(x @ m["w"])
    inputs, labels = rng.standard_normal((7, 3)), rng.integers(0, 2, 7)
    further = rng.standard_normal((4, 3)), rng.integers(0, 2, 4)
    settings = {"apply": apply, "samplewise": True, "held_out": further}
    task = tasks.with_decay(tasks.supervised(inputs, labels, "cross-entropy", **settings), 0.1)
    models = [{"w": jnp.asarray(rng.standard_normal((3, 2)))} for _ in range(3)]
    data = tasks.supervised(inputs, labels, "cross-entropy", apply=apply, samplewise=True)
    bound = 2 * bytes_per_sample(models[0], data.objective)
    options = {"solver": "tsit5", "rtol": 1e-6, "save": [0.5, 2.0], "memory": bound}
    together = flow.solve_each(models, task, 2.0, batch=2, **options)
    for model, one in zip(models, together, strict=True):
        other = flow.solve(model, task, 2.0, engine="graph", **options)
        for name in ("loss", "held_out_loss", "accuracy", "held_out_accuracy"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)
        assert one.stats.observation_gradients == other.stats.observation_gradients


@pytest.mark.slow  # Programs of their own.
def test_one_of_a_batch_is_resumed_by_itself():
    (first, _), _ = in_lanes([1.0, 2.0], width=2, horizon=1.0)
    onward = flow.resume(first, 2.0)
    whole = flow.solve(member(1.0), loss, 2.0, **PLAIN, engine="graph")
    np.testing.assert_allclose(onward.loss[-1], whole.loss[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": "all"}, "or 'auto'"),
        ({"batch": 0}, "`batch` must be an integer of at least 1"),
        ({"batch": 2.5}, "`batch` must be an integer of at least 1"),
        ({"batch": 2, "engine": "host"}, "`engine` must be left out with `batch`"),
        ({"batch": 2, "checkpoints": flow.Checkpoints("x.npz")}, "`checkpoints` must be left out"),
    ],
)
def test_what_no_batch_takes_is_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as error:
        flow.solve_each([member(1.0)], loss, 1.0, **options)
    assert "\n" not in str(error.value)


@pytest.mark.slow  # A program of lanes.
def test_a_bad_member_is_said_in_its_turn():
    models = [member(1.0), {"theta": jnp.array([jnp.nan, 1.0]), "stiff": jnp.ones(2)}]
    solutions = flow.solve_each(models, loss, 1.0, batch=2, **PLAIN)
    assert next(solutions).result == Outcome.HORIZON
    with pytest.raises(ValueError, match="finite"):
        next(solutions)


def test_what_ends_the_models_themselves_has_its_turn_after_those_that_were_drawn():
    def ended(answer):
        return answer
        yield

    def drawn():
        yield from map(ended, "abc")
        raise RuntimeError("no more")

    found, given = Ensemble(width=4).run(drawn()), []
    with pytest.raises(RuntimeError, match="no more"):
        given.extend(found)
    assert given == ["a", "b", "c"]


@pytest.mark.slow  # A program of lanes.
def test_lanes_of_one_program_compile_once():
    abreast.cache_clear()
    in_lanes([1.0, 2.0, 3.0], width=2)
    assert abreast.cache_info().misses == 1
