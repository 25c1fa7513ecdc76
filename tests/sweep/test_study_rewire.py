"""The table [flow.rewire] of study files: one record, the graph's history, kills, refusals."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from study_text import TEXT

from flowlift import answers, flow, store, studies, sweep
from flowlift.cli import main
from flowlift.flow.checkpoints import Checkpoints
from flowlift.flow.graph_history import stored_lifetimes
from flowlift.plot.flows import flow_in_words, graph_in_words
from flowlift.studies.grid import rows
from flowlift.studies.rewire_plan import RewirePlan
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study

TABLE = '[flow.rewire]\ntimes = [0.5, 2.0]\ndrop = 0.3\ngrow = "random"\n'
FEW = ["lift.sizes=[8]", "lift.ratios={}", "flow.loss_below=1e-9", "flow.per_decade=2"]
INNER = "h1->h2"


def read(tmp_path, *overrides, table=TABLE):
    path = tmp_path / "study.toml"
    path.write_text(TEXT + table)
    return studies.read_study(path, [*FEW, *overrides])


def runs_of(study):
    return [run for row in rows(study) for run in row.runs]


SAVED = np.append(0.0, flow.LogTimes(8).times(10.0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"times": (0.5, 2.0)}, [0.5, 2.0]),
        ({"every": 2.5}, [2.5, 5.0, 7.5]),
        ({"every": 2.5, "first_time": 5.0}, [5.0, 7.5]),
        ({"every": 2.5, "last_time": 5.0}, [2.5, 5.0]),
        ({"every": 2.5, "last_time": 5.0, "anneal": "cosine"}, [2.5]),
        ({"per_decade": 1, "first_time": 0.01}, [0.01, 0.1, 1.0]),
        # 3 x 0.1 is not 0.3, and is meant to be.
        ({"every": 0.1, "last_time": 0.35}, [0.1, 0.2, 0.3]),
    ],
)
def test_schedules_of_rewirings(given, expected):
    plan = RewirePlan(drop=0.3, grow="random", **given)
    saved = np.union1d(SAVED, [0.3])
    np.testing.assert_array_equal(plan.times_within(10.0, saved), expected)


def test_a_falling_fraction_is_a_cosine_to_the_last_time():
    plan = RewirePlan(drop=0.4, grow="gradient", every=1.0, last_time=4.0, anneal="cosine")
    found = plan.fractions(plan.times_within(10.0, SAVED), 10.0)
    np.testing.assert_allclose(found, [0.2 * (1 + np.sqrt(0.5)), 0.2, 0.2 * (1 - np.sqrt(0.5))])


def test_a_rewiring_enters_the_identity_of_a_run_and_none_leaves_it_as_it_was(tmp_path):
    plain, changing = read(tmp_path, table=""), read(tmp_path)
    assert set(runs_of(plain)).isdisjoint(runs_of(changing))
    assert "rewire" not in studies.to_toml(plain)
    path = tmp_path / "again.toml"
    path.write_text(studies.to_toml(changing))
    again = studies.read_study(path)
    assert again.flow.rewire == RewirePlan(times=(0.5, 2.0), drop=0.3, grow="random")
    assert runs_of(again) == runs_of(changing)
    other = read(tmp_path, "flow.rewire.drop=[0.3, 0.3]")
    assert set(runs_of(other)).isdisjoint(runs_of(changing))


REFUSED = {
    "dynamics": (
        ['flow.dynamics={kind="heavy-ball", friction=1.0}'],
        "`flow.rewire` must be left out with .flow.dynamics., since the velocity",
    ),
    "a model that is no lift": (["lift.edges={kind='complete'}"], "`edges` must name base edges"),
    "a dense base edge": (['flow.rewire.edges=["x->h1"]'], "`edges` must name base edges that are"),
    "what is frozen": (
        ['frozen=["h1->h2"]', 'flow.rewire.edges=["h1->h2"]'],
        "`edges` must name base edges that flow, but 'h1->h2' is frozen",
    ),
    "a rate of 0": (['rates={"h1->h2"=0.0}'], "`rates` must be positive where edges grow from 0"),
    "no edge that leaves": (["flow.rewire.drop=1e-3"], "that drops an edge, but is 0.001"),
    "all edges": (["flow.rewire.drop=1.0"], "`drop` must be a fraction above 0 and below 1"),
    "too few fractions": (["flow.rewire.drop=[0.1]"], "or one for each of 2 times"),
    "beyond the horizon": (
        ["flow.rewire.times=[7.0]"],
        "`times` must hold increasing times between",
    ),
    "at the horizon": (["flow.rewire.times=[5.0]"], "leave out both ends"),
    "never": (
        ['flow.rewire={every=9.0, drop=0.3, grow="random"}'],
        "`rewire` must give times between 0 and the horizon 5, but gives none",
    ),
    "projections": (
        ['observe={quantities={th={kind="theta", projections=2}}}'],
        "`quantities` must hold no projections of theta where the graph changes",
    ),
    "a name that its history has": (
        ['observe={quantities={rewirings={kind="rayleigh"}}}'],
        "must not have a name that results use themselves, but has 'rewirings'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_sense_is_refused_before_any_flow(tmp_path, case):
    overrides, match = REFUSED[case]
    with pytest.raises(ValueError, match=match) as error:
        check_study(read(tmp_path, *overrides))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"times": (1.0,), "every": 1.0}, "but given are `times`, `every`; give one"),
        ({}, "but given are none; give one"),
        ({"times": (1.0,), "last_time": 1.0}, "`last_time` must be positive, and given with"),
        ({"every": -1.0}, "`every` must be a positive time"),
        ({"per_decade": 2}, "`per_decade` must be at least 1, and given with `first_time`"),
        ({"every": 1.0, "prune": "random"}, "`prune` must be one of magnitude, but is 'random'"),
        ({"every": 1.0, "grow": "magnitude"}, "`grow` must be one of gradient, random"),
        ({"every": 1.0, "anneal": "linear"}, "`anneal` must be one of cosine, but is 'linear'"),
        ({"every": 1.0, "anneal": "cosine", "drop": (0.1,)}, "`anneal` must be left out"),
    ],
)
def test_plans_without_sense_are_refused_in_one_sentence(given, match):
    with pytest.raises(ValueError, match=match):
        RewirePlan(**({"drop": 0.3, "grow": "random"} | given))
    with pytest.raises(ValueError, match="`every` must give at most 100000 times up to 10"):
        RewirePlan(drop=0.3, grow="random", every=1e-9).times_within(10.0, SAVED)


def test_a_page_says_that_the_graph_changes():
    plan = RewirePlan(every=0.5, first_time=1.0, drop=0.25, grow="gradient")
    assert graph_in_words(plan) == (
        "the graph changes every 0.5 from t = 1 on: of the edges 25% leave, those of least weight,"
        " and as many enter from weight 0, with the largest gradients"
    )
    plan = RewirePlan(times=(1.0, 2.0), drop=(0.3, 0.1), grow="random")
    assert "at t = 1, 2: of the edges 30%, then 10% leave" in graph_in_words(plan)


def by_hand(study, seed, size=8):
    """The flow of one run by the library alone."""
    plan, model = study.flow, model_maker(study)(size, seed)
    rewired = flow.solve_rewired(
        model, study_task(study, model), plan.horizon, times=[0.5, 2.0], drop=plan.rewire.drop,
        grow=plan.rewire.grow, seed=seed, solver=plan.solver, rtol=plan.rtol, atol=plan.atol,
        save=plan.schedule, stops=plan.stops, precision=study.precision,
        snapshots=study.observe.times(plan.horizon)[1:] if study.observe else (),
    )  # fmt: skip
    return model, rewired


def same(one, other):
    """To the bit, but for when, where and how fast they were computed."""
    apart = ["seconds", "run_seconds", "compile_seconds", "ended", "host", "observation_seconds"]
    return one.drop_vars(apart, errors="ignore").equals(other.drop_vars(apart, errors="ignore"))


@pytest.mark.slow  # A study, and each of its flows again by hand.
@pytest.mark.parametrize("grow", ["random", "gradient"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_run_is_the_flow_of_the_library_and_keeps_its_graphs_history(tmp_path, grow, precision):
    # Losses of the two precisions are compared with nothing but themselves.
    given = [f'flow.rewire.grow="{grow}"', f'precision="{precision}"', "flow.rtol=1e-4"]
    observe = 'observe={per_decade=1, first_time=0.1, quantities={theta={kind="theta"}}}'
    study = read(tmp_path, *given, observe.replace("{theta=", "{weights="))
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    for seed in (0, 1):
        model, rewired = by_hand(study, seed)
        found, run = results.sel(size=8, seed=seed), rewired.solution
        np.testing.assert_array_equal(found.time, run.times)
        for name in ("loss", "gradient_norm", "arc_length", "energy", "distance"):
            np.testing.assert_array_equal(found[name], getattr(run, name), err_msg=name)
        assert float(found.final_loss) == rewired.legs[-1].loss[-1]
        assert str(found.graph_hash.values) == model.graph_hash
        assert str(found.final_graph_hash.values) == rewired.model.graph_hash
        hashes = [leg.model.graph_hash for leg in rewired.legs[1:]]
        assert found.rewiring_graph_hash.values.tolist() == hashes
        np.testing.assert_array_equal(found.rewiring_time, [0.5, 2.0])
        jumps = found.rewiring_loss_after - found.rewiring_loss_before
        np.testing.assert_array_equal(jumps, rewired.jumps)
        kept = stored_lifetimes(model, found, INNER)
        for one, other in zip(kept, rewired.lifetimes(INNER), strict=True):
            np.testing.assert_array_equal(one, other)
        # The lift at the end, from what is stored alone.
        sources, targets, _, died = kept
        last = sorted(zip(targets[np.isinf(died)], sources[np.isinf(died)], strict=True))
        ends = rewired.model.edges(INNER)
        assert last == list(zip(ends[1], ends[0], strict=True))
        flat = np.concatenate([np.ravel(w) for w in rewired.model.weights.values()])
        theta = found.weights.sel(observation_time=5.0).values
        np.testing.assert_array_equal(theta[np.isfinite(theta)][: flat.size], flat)
    with pytest.raises(ValueError, match="must be one run whose graph changed and began as"):
        stored_lifetimes(model_maker(study)(8, 5), results.sel(size=8, seed=0), INNER)


@pytest.mark.slow  # Three studies of four flows.
def test_the_seed_of_the_run_decides_whatever_the_chunks_and_workers(tmp_path):
    study = read(tmp_path, "seeds=4", "chunk=4")
    whole = sweep.run_study(study, tmp_path / "a", progress=False)
    assert len({str(h) for h in whole.final_graph_hash.values.ravel()}) == 4
    cut = read(tmp_path, "seeds=4", "chunk=1")
    with sweep.spawned_workers(2) as executor:
        shared = sweep.run_study(cut, tmp_path / "b", executor=executor, progress=False)
    order = lambda data: data.drop_vars("exchange", errors="ignore")
    assert same(order(whole), order(shared))
    early = read(tmp_path, "seeds=1", "first_seed=3")
    alone = sweep.run_study(early, tmp_path / "c", progress=False)
    assert float(alone.final_loss.squeeze()) == float(whole.final_loss.sel(seed=3).squeeze())


SCRIPT = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
from flowlift import studies, sweep
study = studies.read_study(sys.argv[1], sys.argv[3:])
sweep.run_study(study, sys.argv[2], every=0.0, progress=False)
"""
MANY = 'flow.rewire={every=0.05, drop=0.3, grow="gradient"}'


@pytest.mark.slow  # A process that is killed in the middle of a hundred legs, and two studies.
def test_a_study_that_is_killed_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    study, place = read(tmp_path, MANY, "seeds=1"), tmp_path / "results"
    words = [str(tmp_path / "study.toml"), str(place), *FEW, MANY, "seeds=1"]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *words])
    (run,) = runs_of(study)
    third = place / "running" / f"{run}.3.npz"
    try:
        # Minutes: on a busy machine the imports alone take long.
        until = time.monotonic() + 600
        while not third.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert third.exists()
    assert not list((place / "cells").glob("*.nc"))
    restored, restore = [], Checkpoints.restore

    def watched(self, *given):
        found = restore(self, *given)
        restored.append(found is not None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "restore", watched)
        again = sweep.run_study(study, place, progress=False)
    assert sum(restored) >= 3
    assert not list((place / "running").glob("*.npz"))
    whole = sweep.run_study(study, tmp_path / "whole", progress=False)
    assert same(again, whole)
    assert int(whole.rewirings.squeeze()) == 99


@pytest.mark.slow  # Two studies.
def test_a_run_that_fails_keeps_its_legs_up_to_there(tmp_path, monkeypatch):
    study = read(tmp_path, "seeds=1")
    whole = sweep.run_study(study, tmp_path / "whole", progress=False).squeeze()
    calls, exchange = [], flow.solve_rewired.__globals__["exchange"]

    def failing(*given, **named):
        calls.append(0)
        if len(calls) == 2:
            raise RuntimeError("a fault in the middle")
        return exchange(*given, **named)

    monkeypatch.setitem(flow.solve_rewired.__globals__, "exchange", failing)
    broken = sweep.run_study(study, tmp_path / "broken", progress=False).squeeze()
    assert str(broken.result.values) == "exception"
    assert "a fault in the middle" in str(broken.reason.values)
    known = np.isfinite(broken.loss.values)
    np.testing.assert_array_equal(broken.time[known], whole.time[whole.time <= 2.0])
    for name in ("loss", "energy", "distance"):
        np.testing.assert_array_equal(broken[name][known], whole[name].sel(time=broken.time[known]))
    np.testing.assert_array_equal(broken.rewiring_time, [0.5, np.nan])
    assert float(broken.rewiring_loss_after[0]) == float(whole.rewiring_loss_after[0])
    assert int(broken.rewirings) == 1


@pytest.mark.slow  # Two studies of one flow each.
def test_a_rule_ends_the_whole_flow_and_a_certificate_waits_for_the_last_graph(tmp_path):
    loose = ["flow.critical_gradient_norm=10.0", "flow.critical_curvature=100.0", "seeds=1"]
    study = read(tmp_path, *loose)
    whole = sweep.run_study(study, tmp_path / "whole", progress=False).squeeze()
    assert np.isfinite(whole.least_eigenvalue)
    middle = 0.5 * float(whole.loss.sel(time=0.5) + whole.initial_loss)
    early = read(tmp_path, *loose, f"flow.loss_below={middle}")
    stopped = sweep.run_study(early, tmp_path / "stopped", progress=False).squeeze()
    assert str(stopped.result.values) == "loss below"
    assert float(stopped.end_time) < 0.5
    assert int(stopped.rewirings) == 0
    assert np.isnan(stopped.rewiring_time).all()
    assert str(stopped.final_graph_hash.values) == str(stopped.graph_hash.values)
    # The critical point of a graph that would still have changed is nobody's end.
    assert np.isnan(stopped.least_eigenvalue)


ALTERNATIVES = """
[alternatives.graph.static]
[alternatives.graph.set]
"flow.rewire" = { times = [0.5], drop = 0.3, grow = "random" }
[alternatives.graph.rigl]
"flow.rewire" = { times = [1.0, 2.0], drop = 0.3, grow = "gradient" }
"""


@pytest.mark.slow  # A grid with its page, figures and tables.
def test_graphs_that_stay_and_that_change_are_one_grid_with_answers_and_a_page(tmp_path, capsys):
    study = read(tmp_path, "question={losses=[0.1], times=[5.0]}", table=ALTERNATIVES)
    place = tmp_path / "results"
    results = sweep.run_study(study, place, progress=False)
    assert results.graph.values.tolist() == ["static", "set", "rigl"]
    assert np.isnan(results.rewirings.sel(graph="static")).all()
    assert (results.rewirings.sel(graph="rigl") == 2).all()
    flow_words = flow_in_words(results)
    assert flow_words == ("exact gradient flow on a graph that changes", False)
    for command in ("report", "plot", "success", "status"):
        main([command, str(place)])
        assert "Traceback" not in capsys.readouterr().out
    page = (place / "report.html").read_text()
    assert "a graph that changes" in page
    assert len(store.runs_table(results)) == 6
    assert answers.verdicts(results, 0.1, 5.0).verdict.isin(["yes", "no", "not observed"]).all()
    store.folding.fold(place)
    assert same(store.load(place), results)
