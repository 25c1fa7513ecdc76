"""Runs of a study equal flows solved by hand, are kept whole, and are not repeated."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from study_text import TEXT, TINY

import flowlift
from flowlift import answers, lift, plot, store, studies, sweep
from flowlift.sweep import run as run_module
from flowlift.sweep.admission import check_grid

# Recorded beside a run's numbers, and different each time.
BESIDE = ["seconds", "run_seconds", "compile_seconds", "ended", "host"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(TEXT)
    return studies.read_study(path)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    sweep.run_study(study, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return store.load(folder)


def test_each_run_is_the_flow_solved_by_hand(study, results):
    module, task = study.module.build(), study.task.build(precision="float64")
    weights = {"*": lift.Gaussian(1.0), "x->h1": lift.GaussianFanIn(2.0)}
    edges = lift.BernoulliInDegree(2.0)
    copies = {"h1": 8, "h2": 4}
    model = flowlift.sample(module, copies=copies, edges=edges, weights=weights, seed=1)
    stops = [flowlift.LossBelow(0.01)]
    solution = flowlift.solve(model, task, 5.0, solver="tsit5", stops=stops)
    run = results.sel(size=8, seed=1)
    reached = np.isfinite(run.loss.values)
    on_grid = np.isin(solution.times, run.time.values)
    np.testing.assert_array_equal(run.loss.values[reached], solution.loss[on_grid])
    assert float(run.final_loss) == solution.loss[-1]
    assert float(run.end_time) == solution.time
    assert str(run.result.values) == solution.result.value
    assert str(run.graph_hash.values) == model.graph_hash
    assert int(run.gradients) == solution.stats.gradients
    assert int(run.parameters) == model.n_parameters


def test_results_describe_themselves(study, results, tmp_path):
    copy = tmp_path / "copy.toml"
    copy.write_text(results.attrs["study"])
    assert studies.read_study(copy) == study
    assert results.attrs["version_jax"] == __import__("jax").__version__
    for name in [*results.data_vars, "size", "seed", "time"]:
        assert results[name].attrs["long_name"], name
        assert results[name].attrs["units"], name
    assert results.loss.dims == ("size", "seed", "time")
    assert results.time.values[0] == 0
    assert results.time.values[-1] == 5.0


def test_a_second_run_repeats_nothing_and_a_wider_one_adds(study, folder, monkeypatch):
    ran = []
    original = run_module.compute_and_store

    def counted(study, cell, *others):
        ran.append((cell.size, cell.seeds))
        return original(study, cell, *others)

    monkeypatch.setattr(run_module, "compute_and_store", counted)
    before = sweep.run_study(study, folder, progress=False)
    assert ran == []
    plan = dataclasses.replace(study.lift, sizes=(8, 5))
    wider = dataclasses.replace(study, lift=plan, name="wider", seeds=3, chunk=2)
    after = sweep.run_study(wider, folder, progress=False)
    assert ran == [(8, (2,)), (5, (0, 1)), (5, (2,))]
    assert after["size"].values.tolist() == [8, 5]
    assert after["seed"].values.tolist() == [0, 1, 2]
    xarray.testing.assert_equal(after.loss.sel(size=8, seed=[0, 1]), before.loss.sel(size=8))
    xarray.testing.assert_equal(store.load(folder, study), before)


def test_the_identity_of_a_run_is_what_determines_its_numbers(study):
    name = studies.run_identity(study, 8, 1)
    renamed = dataclasses.replace(study, name="other", seeds=7, chunk=3)
    assert studies.run_identity(renamed, 8, 1) == name
    looser = dataclasses.replace(study, flow=dataclasses.replace(study.flow, rtol=1e-5))
    counted = dataclasses.replace(
        study, lift=dataclasses.replace(study.lift, size_counts="parameters")
    )
    others = {
        studies.run_identity(looser, 8, 1),
        studies.run_identity(counted, 8, 1),
        studies.run_identity(study, 4, 1),
        studies.run_identity(study, 8, 2),
        studies.run_identity(dataclasses.replace(study, precision="float32"), 8, 1),
    }
    assert len(others | {name}) == 6


def test_runs_stored_by_earlier_versions_keep_their_identity():
    digits = Path(__file__).parents[2] / "studies" / "01_digits" / "study.toml"
    assert studies.run_identity(studies.read_study(digits), 16, 0) == "33787157dbcde4c0"


def test_shards_are_disjoint_and_together_the_whole(study):
    large = dataclasses.replace(study, seeds=40)
    runs = [run for cell in studies.cells(large) for run in cell.runs]
    parts = [[r for cell in studies.cells(large, (), (i, 3)) for r in cell.runs] for i in range(3)]
    assert sorted(run for part in parts for run in part) == sorted(runs)
    assert len(set(runs)) == 80
    assert all(10 < len(part) < 45 for part in parts)


def test_workers_and_shards_give_the_same_bits(study, folder, tmp_path):
    with sweep.spawned_workers(1) as executor:
        for part in range(2):
            results = sweep.run_study(
                study, tmp_path, executor=executor, shard=(part, 2), progress=False
            )
    here = store.load(folder, study)
    xarray.testing.assert_equal(results.drop_vars(BESIDE), here.drop_vars(BESIDE))


@pytest.mark.slow  # a grid of many cells
def test_further_axes_of_a_grid_become_dimensions(study, tmp_path):
    plan = dataclasses.replace(study.lift, sizes=(4,))
    law = lambda mean: {"lift.edges": {"kind": "bernoulli_in_degree", "mean": mean}}
    grid = dataclasses.replace(
        study,
        lift=plan,
        vary={"flow.solver": ("tsit5", "dopri8")},
        alternatives={"degree": {"low": law(1.0), "high": law(3.0)}},
    )
    results = sweep.run_study(grid, tmp_path, progress=False)
    assert results.final_loss.dims == ("solver", "degree", "size", "seed")
    assert results["solver"].values.tolist() == ["tsit5", "dopri8"]
    assert results["degree"].values.tolist() == ["low", "high"]
    assert answers.further_axes(results) == ["solver", "degree"]
    # The lift depends on the mean, and not on the solver; nor does the flow, to its tolerance.
    same = results.sel(size=4)
    assert np.all(same.edges.sel(degree="high") > same.edges.sel(degree="low"))
    one, other = (same.loss.sel(solver=name) for name in ("tsit5", "dopri8"))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-4)
    three = dataclasses.replace(plan, edges=lift.BernoulliInDegree(3.0))
    alone = dataclasses.replace(
        study, lift=three, flow=dataclasses.replace(study.flow, solver="tsit5")
    )
    before = {studies.run_identity(alone, 4, seed) for seed in (0, 1)}
    assert before == set(same["run"].sel(degree="high", solver="tsit5").values)
    table = answers.summary(results)
    assert table.index.names == ["solver", "degree", "lift size"]
    assert len(table) == 4
    names = {file.stem for file in plot.save_figures(results, tmp_path / "figures")}
    assert names == {"loss_vs_time", "loss_vs_size", "paired_degree", "paired_solver"}


def test_alternatives_may_have_sizes_of_their_own(study):
    sizes = {"small": {"lift.sizes": [4, 8]}, "large": {"lift.sizes": [8, 16]}}
    grid = dataclasses.replace(study, alternatives={"range": sizes})
    assert studies.grid.all_sizes(grid) == [4, 8, 16]
    found = [(cell.variant, cell.size) for cell in studies.cells(grid)]
    assert found == [((("range", name),), n) for name in sizes for n in sizes[name]["lift.sizes"]]
    one = dataclasses.replace(study, lift=dataclasses.replace(study.lift, sizes=(16,)))
    assert list(studies.cells(grid))[-1].runs == next(iter(studies.cells(one))).runs


def test_single_sizes_may_have_fewer_seeds(study):
    study = dataclasses.replace(study, seeds=5)
    fewer = dataclasses.replace(study, seeds_at_most={"8": 2})
    runs = {row.size: row.runs for row in studies.grid.rows(study)}
    kept = {row.size: row.runs for row in studies.grid.rows(fewer)}
    assert kept == {4: runs[4], 8: runs[8][:2]}
    assert sum(len(cell.seeds) for cell in studies.cells(fewer)) == 7
    # A quick grid of fewer seeds stays one.
    assert len(dataclasses.replace(fewer, seeds=1).seeds_of(8)) == 1


def test_a_torn_file_is_set_aside_and_its_runs_are_run_again(study, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "index")
    before = store.load(copy, study)
    shutil.rmtree(copy / "index")
    (torn,) = {store.cells.finished(copy)[run] for run in before["run"].sel(size=4).values}
    shutil.rmtree(copy / "index")
    torn.write_bytes(torn.read_bytes()[:1000])
    (copy / "cells" / "foreign.nc").write_text("something else")
    with pytest.warns(UserWarning, match="was moved to .*no readable cell"):
        after = sweep.run_study(study, copy, progress=False)
    assert {file.name for file in (copy / "set_aside").iterdir()} == {torn.name, "foreign.nc"}
    xarray.testing.assert_equal(after.drop_vars(BESIDE), before.drop_vars(BESIDE))


def test_an_interrupted_write_leaves_nothing(results, tmp_path, monkeypatch):
    original = Path.write_bytes

    def broken(self, content):
        original(self, content[:100])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="No space left"):
        store.cells.write_cell(results, studies.Cell((), 4, (0,), ("a",)), tmp_path)
    assert list((tmp_path / "cells").iterdir()) == []


def test_failed_flows_are_results_that_are_kept_and_counted(study, tmp_path):
    plan = dataclasses.replace(study.flow, max_steps=5, loss_below=None)
    limited = dataclasses.replace(study, flow=plan)
    results = sweep.run_study(limited, tmp_path, progress=False)
    assert np.all(results.result.values == "step limit")
    assert np.all(results.end_time.values < 5.0)
    assert np.all(np.isfinite(results.final_loss.values))
    assert np.isnan(results.loss.values[..., -1]).all()
    assert np.isfinite(results.loss.values[..., 0]).all()
    table = answers.summary(results)
    assert table.result.tolist() == ["2 step limit"] * 2


def test_the_table_holds_medians_and_ranges(results):
    table = answers.summary(results)
    assert table.index.tolist() == [4, 8]
    losses = results.final_loss.sel(size=4).values
    assert table.loc[4, "final loss"] == f"{np.median(losses):.4g}"
    assert table.loc[4, "range"] == f"{losses.min():.4g} .. {losses.max():.4g}"
    text = answers.as_text(table)
    for heading in ("lift size", "parameters", "edges", "flow time", "seconds", "result"):
        assert heading in text


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="holds no finished cell of its study; run the study first"
    ):
        store.load(tmp_path)


def test_a_budget_of_gradients_is_kept_by_every_run(tmp_path):
    """What is spent is stored as it was counted, and is neither reached nor failed."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    study = studies.read_study(path, ["seeds=2", "flow.horizon=50", "flow.max_gradients=30"])
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    assert (results.result == "budget").all()
    # An attempted step of Tsit5 takes at most seven.
    assert np.all((results.gradients >= 30) & (results.gradients < 30 + 7))
    assert np.all(results.end_time < 50)
    assert np.isfinite(results.final_loss).all()
    # A run that ended so is finished: nothing is computed again.
    again = sweep.run_study(study, tmp_path / "results", progress=False, retry_failed=True)
    assert again.equals(results)


OVER = [
    (["vary={'flow.rtol'=[1e-3, 1e-4]}", "alternatives={a={x={'flow.rtol'=1e-5}}}"], "flow.rtol"),
    (["alternatives={a={x={seeds=1}}, b={y={seeds=2}}}"], "seeds"),
    (
        ["vary={'lift.edges.mean'=[1, 2]}", "alternatives={a={x={'lift.edges.kind'='complete'}}}"],
        None,
    ),
    (
        [
            "vary={'lift.edges.mean'=[1, 2]}",
            "alternatives={a={x={'lift.edges'={kind='bernoulli_in_degree', mean=3}}}}",
        ],
        "lift.edges.mean",
    ),
]


@pytest.mark.parametrize(("assigned", "key"), OVER, ids=["itself", "two", "beside", "around"])
def test_an_axis_does_not_assign_over_another(tmp_path, assigned, key):
    """Else a coordinate of the results would name a value that no run had."""
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    study = studies.read_study(path, assigned)
    if key is None:
        check_grid(studies.read_study(path, assigned[:1]))
        return
    with pytest.raises(ValueError, match=f"assigns `{key}` over what the axis"):
        check_grid(study)
