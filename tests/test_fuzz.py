"""The fuzzer finds planted faults, and a small fixed part of it runs."""

import dataclasses
import functools
import types
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from fuzz import __main__ as command
from fuzz import checks, draws, families, hard_families, manner_families, network_families, networks
from fuzz import store_families as stores

from flowlift import flow
from flowlift.flow import LossBelow, Outcome

# Blocks of equal shapes, so that a case costs no compilation but the first of its block.
FIXED = [("ends", range(40, 46)), ("resumes", range(280, 283)), ("kills", range(160, 163))]


@pytest.mark.parametrize(("family", "numbers"), FIXED)
def test_a_fixed_part(family, numbers):
    before = checks.HELD.total()
    for number in numbers:
        families.FAMILIES[family](number, solver="tsit5")
    # An invariant that fails raises; each case must have been asked some.
    assert checks.HELD.total() >= before + len(numbers)


def test_a_fixed_lift():
    before = checks.HELD.total()
    network_families.maps(30)
    assert checks.HELD.total() > before


def test_fixed_study_files():
    before = checks.HELD["one_sentence"]
    for number in range(12):
        stores.study_files(number, computed=False)
    # Some are refused, and some are not.
    assert before < checks.HELD["one_sentence"] < before + 12


@pytest.mark.slow
@pytest.mark.parametrize("family", ["complexes", "edges", "counts", "writes"])
def test_a_fixed_hard_flow(family):
    before = checks.HELD.total()
    for number in range(5):
        (hard_families.FAMILIES | stores.FAMILIES)[family](number, solver="tsit5")
    assert checks.HELD.total() > before


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mlps", "lift_flows", "twins"])
def test_a_fixed_network_flow(family):
    before = checks.HELD.total()
    network_families.FAMILIES[family](0)
    assert checks.HELD.total() > before


@pytest.mark.slow  # each block compiles a network and its dynamics
@pytest.mark.parametrize("block", range(6))
def test_fixed_manners(block):
    before = checks.HELD.total()
    manner_families.manners(6 * block)
    assert checks.HELD.total() > before


@functools.cache
def case():
    shapes, rng = draws.streams("ends", 40)
    drawn = draws.draw_flow(shapes, rng, "tsit5")
    return dataclasses.replace(drawn, save=[0.25, 0.5], snapshots=[0.5], horizon=1.0)


@functools.cache
def sound():
    return case().solve()


def planted(**changes):
    return dataclasses.replace(sound(), **changes)


def late(series):
    return np.append(series[:-1], series[-1] * 1.1 + 1e-3)


def wanted(solution):
    checks.every_time_is_there(solution, 1.0, [[0.25, 0.5], 1.0])


def snapshots(solution):
    checks.every_snapshot_is_there(solution, [0.5])


def end(solution, *stops):
    checks.end_follows_from_the_records(solution, 1.0, stops)


def met(solution):
    end(solution, LossBelow(float(sound().loss[-1])))


def beyond(solution):
    checks.stopped_where_the_formula_says(solution, case(), 1.0, [LossBelow(-1e9)])


def passed(solution):
    checks.stopped_where_the_formula_says(solution, case(), 1.0, [LossBelow(1e9)])


def curve(solution):
    checks.curve_is_exact(solution, case())


def same(solution):
    checks.same_bits(solution, sound())


def stats(**changes):
    return {"stats": dataclasses.replace(sound().stats, **changes)}


def spent(budget):
    return functools.partial(checks.budget_of_gradients, free=sound(), budget=budget, attempt=6)


def steps(limit):
    return functools.partial(checks.limit_of_steps, free=sound(), limit=limit)


def falls(solution):
    checks.energy_identity(solution, 1e-3)


def steps_alike(solution):
    checks.same_steps(solution, sound())


FAULTS = [
    (checks.shape_of_the_end, lambda s: {"time": 0.9}),
    (checks.shape_of_the_end, lambda s: {"times": np.array([0.0, 0.5, 0.5, 1.0])}),
    (checks.shape_of_the_end, lambda s: {"energy": s.energy[:-1]}),
    (checks.shape_of_the_end, lambda s: {"loss": np.append(s.loss[:-1], np.nan)}),
    (checks.shape_of_the_end, lambda s: {"loss": s.loss.astype("float32")}),
    (checks.shape_of_the_end, lambda s: {"observations": {"sum": np.zeros(2)}}),
    (wanted, lambda s: {"times": np.array([0.0, 0.5, 1.0])}),
    (wanted, lambda s: {"times": np.array([0.0, 0.25, 0.3, 0.5, 1.0])}),
    (wanted, lambda s: {"time": 1.0000001}),
    (snapshots, lambda s: {"snapshots": {}}),
    (snapshots, lambda s: {"snapshots": s.snapshots | {0.7: s.model}}),
    (snapshots, lambda s: {"times": np.array([0.0, 0.25, 0.5]), "time": 0.5}),
    (met, lambda s: {}),
    (end, lambda s: {"result": Outcome.LOSS_BELOW}),
    (end, lambda s: {"result": Outcome.STEP_LIMIT}),
    (end, lambda s: {"result": Outcome.NON_FINITE, "time": 0.5}),
    (curve, lambda s: {"model": s.model * 1.01}),
    (curve, lambda s: {"loss": late(s.loss)}),
    (curve, lambda s: {"energy": late(s.energy)}),
    (curve, lambda s: {"distance": late(s.distance)}),
    (curve, lambda s: {"arc_length": s.arc_length * 0.5}),
    (curve, lambda s: {"snapshots": {0.5: s.model}}),
    (curve, lambda s: {"observations": {"sum": late(s.loss)}}),
    (beyond, lambda s: {"result": Outcome.LOSS_BELOW}),
    (passed, lambda s: {}),
    (same, lambda s: {"loss": np.nextafter(s.loss, np.inf)}),
    (same, lambda s: {"model": np.nextafter(s.model, np.inf)}),
    (same, lambda s: {"snapshots": {0.5: np.nextafter(s.snapshots[0.5], np.inf)}}),
    (same, lambda s: stats(gradients=s.stats.gradients + 1)),
    (steps(10**6), lambda s: stats(legs=s.stats.legs + 1)),
    (steps(1), lambda s: {"result": Outcome.STEP_LIMIT}),
    (steps(1), lambda s: stats(steps=1)),
    (spent(10**6), lambda s: {"loss": late(s.loss)}),
    (spent(1), lambda s: {"result": Outcome.BUDGET}),
    (spent(1), lambda s: {"result": Outcome.BUDGET, **stats(gradients=8)}),
    (checks.tallies_add_up, lambda s: stats(rejected=s.stats.steps + 1)),
    (checks.tallies_add_up, lambda s: stats(observation_gradients=0)),
    (checks.tallies_add_up, lambda s: stats(gradients=1)),
    (falls, lambda s: {"energy": late(s.energy)}),
    (falls, lambda s: {"loss": s.loss[::-1], "energy": s.loss[-1] - s.loss[::-1]}),
    (steps_alike, lambda s: {"loss": late(s.loss)}),
    (steps_alike, lambda s: stats(steps=s.stats.steps + 1)),
]


@pytest.mark.parametrize(("check", "fault"), FAULTS)
def test_a_check_finds_a_planted_fault(check, fault):
    with pytest.raises(checks.Fault):
        check(planted(**fault(sound())))


def test_the_checks_pass_what_is_sound():
    for check in {check for check, _ in FAULTS} - {met, beyond, passed}:
        if not isinstance(check, functools.partial):
            check(sound())
    steps(10**6)(sound())
    spent(10**6)(sound())
    beyond(sound())


@pytest.mark.parametrize("fault", ["jvp", "values", "products", "slope", None])
def test_wrong_derivatives_are_found(fault):
    """L = sum sin(theta), along u and v."""
    theta, u, v, step = np.arange(3.0), np.array([1.0, 0.3, -2.0]), np.array([0.5, 1.0, 1.0]), 1e-3
    slope, product = np.cos(theta) @ u, -(u * v) @ np.sin(theta)
    values = [np.sin(theta + k * step * u).sum() for k in (-2, -1, 1, 2)]
    found = {"step": step, "jvp": slope, "slope": slope, "values": values}
    found["products"] = (product, product)
    if fault is None:
        return checks.derivatives_agree(found)
    spoilt = np.array(found[fault]) + np.resize([1e-4, 0.0], np.shape(found[fault]))
    with pytest.raises(checks.Fault):
        checks.derivatives_agree(found | {fault: spoilt})


EDGE = {"result": Outcome.NON_FINITE, "time": 1.0, "loss": np.array([1.0, np.nan, np.nan])}


@pytest.mark.parametrize(
    ("fault", "sound"),
    [
        ({"loss": np.array([1.0, 0.5, np.nan])}, True),
        ({}, False),
        ({"result": Outcome.HORIZON, "loss": np.zeros(3)}, False),
        ({"result": Outcome.NO_PROGRESS, "loss": np.zeros(3)}, False),
        ({"time": 1.2, "loss": np.zeros(3)}, False),
        ({"time": 0.5, "loss": np.zeros(3)}, False),
        ({"model": np.array([np.nan]), "loss": np.zeros(3)}, False),
    ],
)
def test_a_wrong_end_at_an_edge_is_found(fault, sound):
    solution = planted(**{"energy": np.zeros(3)} | EDGE | fault)
    if sound:
        return checks.ended_at_the_edge(solution, case(), 1.0)
    with pytest.raises(checks.Fault):
        checks.ended_at_the_edge(solution, case(), 1.0)


@pytest.mark.parametrize(("tally", "true"), [(9, False), (10, True), (13, True), (14, False)])
def test_wrong_counts_are_found(tally, true):
    before = flow.FlowStats(gradients=1, observation_gradients=1, hvps=2)
    after = flow.FlowStats(gradients=7, observation_gradients=5, hvps=5)
    if true:
        return checks.counted_by_the_host(after, before, tally)
    with pytest.raises(checks.Fault):
        checks.counted_by_the_host(after, before, tally)


@pytest.mark.parametrize("text", ["Bad", "`a` is\nbad.", "Bad value.", "`a` is <X object at 0x7>."])
def test_no_sentences_are_found(text):
    checks.one_sentence("Argument `a` must be 1, but is 2; give 1.", [])
    with pytest.raises(checks.Fault):
        checks.one_sentence(text, [])


def test_invariants_count_as_often_as_they_hold():
    before = checks.HELD["numbers_agree"]
    checks.numbers_agree("a", 1.0, 1.0)
    with pytest.raises(checks.Fault):
        checks.numbers_agree("a", 1.0, 2.0)
    assert checks.HELD["numbers_agree"] == before + 1


def test_numbers_agree_in_value_and_shape():
    checks.numbers_agree("a", np.ones(3), np.ones(3) + 1e-13)
    for other in (np.ones(3) + 1e-9, np.ones((3, 1)), np.full(3, np.nan)):
        with pytest.raises(checks.Fault):
            checks.numbers_agree("a", np.ones(3), other)


@pytest.mark.parametrize("kind", ["squared", "cross-entropy", "own"])
def test_losses_by_hand_are_those_of_tasks(kind):
    rng = np.random.default_rng(0)
    outputs, labels = rng.standard_normal((5, 3)), rng.integers(0, 3, 5)
    targets = labels if kind == "cross-entropy" else rng.standard_normal((5, 3))
    loss = networks.Huber(np.asarray(2.0)) if kind == "own" else kind
    data = networks.Data(np.arange(5), targets, loss)
    objective = data.task().objective
    task = np.mean(objective.loss.per_sample(jnp.asarray(outputs), objective.targets))
    checks.numbers_agree(kind, task, data.by_hand(outputs))


def test_random_modules_and_lifts_are_drawn_from_their_number():
    kinds = set()
    for number in range(0, 60, 6):
        one, other = (networks.draw_lift(*draws.streams("maps", number, 6)) for _ in range(2))
        assert one.graph_hash == other.graph_hash
        assert one.module == other.module
        kinds |= {type(edge.map).__name__ for edge in one.module.edges}
    assert len(kinds) > 5


def test_stagnation_is_told_by_its_formula():
    """L = 1/t from t = 1: the last halving of t brought as much again as is left, 1/t."""
    t = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    curve = types.SimpleNamespace(times=t, loss=1 / np.maximum(t, 1.0), result=Outcome.HORIZON)
    assert not checks._stagnated(curve, flow.Stagnation(0.14, 2.0))
    assert checks._stagnated(curve, flow.Stagnation(0.15, 2.0))


def test_a_case_is_its_number_alone():
    one, other = (draws.draw_flow(*draws.streams("ends", 87)) for _ in range(2))
    assert str(one) == str(other)
    assert one.loss.rates.tolist() == other.loss.rates.tolist()
    apart = draws.draw_flow(*draws.streams("ends", 88))
    assert apart.kinds == one.kinds
    assert apart.loss.rates.tolist() != one.loss.rates.tolist()


def test_failures_name_what_repeats_them(capsys):
    def odd(number):
        assert number % 2, "even"

    passed, failed = command.fuzz({"odd": odd}, 1e9, 3, burst=4, turns=2)
    assert passed == Counter(odd=4)
    assert list(failed) == [f"odd:{3000 + n}" for n in (0, 2, 4, 6)]
    assert command.report(passed, failed) == 1
    text = capsys.readouterr().out
    assert "python -m tests.fuzz --case odd:3004" in text
    assert "8 cases, 4 failed" in text
    assert command.report(passed, {}) == 0
