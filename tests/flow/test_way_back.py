"""From a stiff solver back to an explicit one, where kinks make it dear."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowlift
from flowlift import tasks
from flowlift.flow import HeavyBall, LogLoss, RMSProp
from flowlift.flow.checkpoints import _tuples
from flowlift.flow.choice import EXPLICIT_COST, Automatic, choose, choose_among
from flowlift.flow.forecast import Mark, Outlook, Spell
from flowlift.flow.sharpness import Ends
from flowlift.flow.takeover import lost

LEFT = ("tsit5", 2.0, 10.0, 100.0)


def kinked(seed: int, samples: int = 30):
    """A ReLU network without declared smoothness that fits thirty random signs in ten dimensions.

    The setting of Dana, Bach and Pillaud-Vivien (arXiv 2502.16977): its flow crosses kinks all the
    way.
    """
    rng = np.random.default_rng([seed, samples, 10])
    x = rng.standard_normal((samples, 10))
    x *= rng.uniform(1, 2, (samples, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.uniform(1, 2, samples) * rng.choice([-1, 1], samples)
    w = rng.uniform(-1, 1, (30, 10)) / 10**0.5
    a = rng.choice([-1, 1], 30) * (np.linalg.norm(w, axis=1) + rng.exponential(1, 30))

    def predict(model, inputs):
        return jax.nn.relu(inputs @ model["w"].T) @ model["a"] / 30

    return {"w": jnp.asarray(w), "a": jnp.asarray(a)}, tasks.supervised(x, y, apply=predict)


def solved(seed: int, solver: str, engine: str | None = None):
    model, task = kinked(seed)
    return flowlift.solve(
        model,
        task,
        1155.0,
        solver=solver,
        rtol=1e-3,
        atol=1e-6,
        stops=[flowlift.LossBelow(1 / 30)],
        max_gradients=60_000,
        engine=engine,
    )


# The BDF alone spent 100,000 gradients on a tenth of the way. Seed 0 begins with tsit5, 3 with bdf.
@pytest.mark.slow  # ten thousand steps each, twice
@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("engine", ["host", "graph"])
def test_a_network_of_relus_is_left_to_the_explicit_solver(seed, engine):
    alone, chosen = solved(seed, "tsit5", engine), solved(seed, "auto", engine)
    assert alone.result.value == chosen.result.value == "loss below"
    assert "bdf" in chosen.solvers
    assert chosen.solvers[-1] == "tsit5"
    assert chosen.stats.cost < 1.5 * alone.stats.cost
    assert chosen.time == pytest.approx(alone.time, rel=0.05)


@pytest.mark.slow  # a flow of ten thousand steps, whole and in two pieces
def test_a_flow_that_went_back_resumes_to_the_same_bits():
    model, task = kinked(3)
    options = {"rtol": 1e-3, "atol": 1e-6, "stops": [flowlift.LossBelow(1 / 30)]}
    whole = flowlift.solve(model, task, 1155.0, **options)
    first = flowlift.solve(model, task, 1155.0, max_gradients=2_000, **options)
    assert first.solvers == whole.solvers == ("bdf", "tsit5")
    rest = flowlift.resume(first, 1155.0, stops=options["stops"])
    assert rest.stats.steps == whole.stats.steps
    np.testing.assert_array_equal(rest.model["w"], whole.model["w"])


def test_a_way_back_is_kept_in_files_and_missing_in_old_ones():
    choice = choose(100, 1e3, 1e-3, Ends(0.0, 1.0), None)
    header = json.loads(json.dumps(dataclasses.asdict(choice)))
    assert Automatic(**_tuples(header)) == choice
    del header["left"]
    assert Automatic(**_tuples(header)) == dataclasses.replace(choice, left=None)


@pytest.mark.slow  # a stiff flow of a network
def test_a_smooth_stiff_flow_without_declaration_stays_with_its_bdf():
    scales = jnp.geomspace(1e-3, 1e3, 40)

    def loss(w):
        return jnp.sum(scales * w**2) + jnp.sum(w**4) / 40

    solution = flowlift.solve(jnp.ones(40), loss, 1e4)
    assert solution.solvers == ("bdf",)


def test_a_choice_knows_a_way_back_where_smoothness_is_not_declared():
    undeclared = choose(100, 1e3, 1e-3, Ends(0.0, 1.0), None)
    assert undeclared.left == ("tsit5", EXPLICIT_COST, 0.0, 0.0)
    assert choose(100, 1e3, 1e-3, Ends(0.0, 1.0), True).left is None
    assert choose(100, 1.0, 1e-3, Ends(0.0, 1.0), None).left is None
    back = undeclared.back("costs too much", 400.0)
    assert (back.names, back.left, back.limit) == (("bdf", "tsit5"), None, 400.0)
    assert back.fallbacks == undeclared.fallbacks
    assert back.open
    onwards = dataclasses.replace(undeclared, fallbacks=())
    assert onwards.open
    assert not onwards.back("costs too much", 400.0).open


def test_other_dynamics_have_takeovers_among_the_solvers_that_serve_them():
    ends, given = Ends(0.0, 100.0), (100, 1e3, 1e-3)
    ball = choose_among(HeavyBall(1.0), ["bdf"], *given, ends, None)
    assert (ball.names, ball.fallbacks) == (("bdf",), ("tsit5",))
    # What an explicit method pays for kinks under momentum is not known beforehand.
    assert ball.left is None
    assert HeavyBall(1.0).sharpness(10.0) == 100.0
    mild = choose_among(HeavyBall(1.0), ["bdf"], 100, 1.0, 1e-3, ends, None)
    assert (mild.names, mild.fallbacks, mild.left) == (("tsit5",), ("bdf",), None)
    log = choose_among(LogLoss(), ["bdf", "rkc2"], *given, ends, True)
    assert (log.names, log.fallbacks, log.left) == (("bdf",), ("rkc2", "tsit5"), None)
    undeclared = choose_among(LogLoss(), ["bdf", "rkc2"], *given, ends, None)
    assert undeclared.left == ("tsit5", EXPLICIT_COST * 100.0, 0.0, 0.0)
    assert not choose_among(RMSProp(1.0), [], *given, None, None).open


@pytest.mark.slow  # Thousands of steps of two solvers.
@pytest.mark.parametrize("seed", [0, 1])
def test_kinks_send_a_log_loss_flow_back_to_the_explicit_solver(seed):
    model, task = kinked(seed)
    data: Any = task.objective
    signs = np.sign(np.asarray(data.targets))
    task = tasks.supervised(data.inputs, signs, "exponential", apply=data.apply)
    settings = {"dynamics": LogLoss(2.0), "rtol": 1e-3, "atol": 1e-6, "max_gradients": 12_000}
    chosen, alone = (
        flowlift.solve(model, task, 1000.0, solver=solver, **settings) for solver in ("auto", "bdf")
    )
    assert chosen.solvers[0] == "bdf"
    assert chosen.solvers[-1] == "tsit5"
    assert chosen.time > 1.5 * alone.time


def spell(cost: int, time: float, lately: int, since: float) -> Spell:
    return Spell(Mark(0, 0, cost - lately, since), Mark(32, 30, cost, time))


def test_a_stiff_solver_is_lost_where_past_present_and_forecast_are_dear():
    # 10 units of time at 2 gradients each would have been 20; the last of them 2.
    dear = spell(cost=5000, time=20.0, lately=300, since=19.0)
    assert lost(LEFT, dear, None, 100.0) == "has cost 4.9e+03, tsit5 20 at its pace"
    # Not where its past was worth it, where it is quick now, or where the way is long in time and
    # short in log t.
    assert lost(LEFT, spell(600, 20.0, 300, 19.0), None, 100.0) is None
    assert lost(LEFT, spell(5000, 20.0, 5, 19.0), None, 100.0) is None
    assert lost(LEFT, dear, None, 1e5) is None
    # Not where the sharpness has grown so that the explicit one would be as dear.
    assert lost(LEFT, dear, Outlook(400.0, 1.0, 0.1), 100.0) is None
