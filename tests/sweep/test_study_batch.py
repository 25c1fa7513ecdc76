"""`[flow] batch` of study files: runs of a cell side by side in one program."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from study_text import TINY

from flowlift import studies, sweep
from flowlift.store.cells import finished
from flowlift.studies.grid import rows
from flowlift.sweep.checking import check_study

SEEDS = ("seeds=4", "chunk=4")


def read(tmp_path, text, *overrides):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


def names(study):
    return [run for row in rows(study) for run in row.runs]


def test_a_width_enters_the_identity_of_a_run_and_none_leaves_it_as_it_was(tmp_path):
    plain, wide = read(tmp_path, TINY), read(tmp_path, TINY, "flow.batch=4")
    assert not set(names(plain)) & set(names(wide))
    assert "batch" not in studies.to_toml(plain)
    assert read(tmp_path, studies.to_toml(wide)).flow.batch == 4
    assert read(tmp_path, TINY, 'flow.batch="auto"').flow.batch == "auto"


@pytest.mark.parametrize("batch", ["0", "true", '"many"'])
def test_what_is_no_width_is_refused(tmp_path, batch):
    with pytest.raises(ValueError, match="batch` must be an integer"):
        read(tmp_path, TINY, f"flow.batch={batch}")


def test_a_solver_without_lanes_is_refused_before_any_flow(tmp_path):
    with pytest.raises(ValueError, match="a solver that has no lanes, 'exprb'"):
        check_study(read(tmp_path, TINY, "flow.batch=2", 'flow.solver="exprb"'))


def test_a_width_and_a_graph_that_changes_are_refused_together(tmp_path):
    rewire = "flow.rewire={times=[0.5], drop=0.5, grow='random'}"
    with pytest.raises(ValueError, match=r"`flow.batch` must be left out with \[flow.rewire\]"):
        check_study(read(tmp_path, TINY, "flow.batch=2", rewire))


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_by_one")
    return sweep.run_study(read(folder, TINY, *SEEDS), folder / "results", progress=False)


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("side_by_side")
    study = read(folder, TINY, *SEEDS, "flow.batch=2")
    return sweep.run_study(study, folder / "results", progress=False)


@pytest.mark.slow  # Lanes, compiled.
def test_runs_side_by_side_are_those_one_by_one(one_by_one, side_by_side):
    np.testing.assert_array_equal(one_by_one["result"], side_by_side["result"])
    np.testing.assert_array_equal(one_by_one.seed, side_by_side.seed)
    np.testing.assert_allclose(side_by_side.loss, one_by_one.loss, rtol=1e-3, equal_nan=True)
    assert float(side_by_side.run_seconds.min()) > 0


@pytest.mark.slow  # Lanes, compiled.
def test_numbers_depend_neither_on_the_chunk_nor_on_what_was_there(tmp_path, side_by_side):
    study = read(tmp_path, TINY, "seeds=1", "first_seed=2", "chunk=1", "flow.batch=2")
    sweep.run_study(study, tmp_path / "results", progress=False)
    study = read(tmp_path, TINY, "seeds=4", "chunk=3", "flow.batch=2")
    found = sweep.run_study(study, tmp_path / "results", progress=False)
    for name in ("loss", "gradient_norm", "steps"):
        np.testing.assert_array_equal(found[name], side_by_side[name])


@pytest.mark.slow  # Lanes, compiled.
def test_a_run_that_raises_loses_no_other(tmp_path, side_by_side, monkeypatch):
    from flowlift.sweep import cell

    drawn = cell.Bench._drawn

    def fail(bench, seed, on_lift):
        if seed == 1:
            raise RuntimeError("bad luck")
        return drawn(bench, seed, on_lift)

    monkeypatch.setattr(cell.Bench, "_drawn", fail)
    study = read(tmp_path, TINY, *SEEDS, "flow.batch=2")
    found = sweep.run_study(study, tmp_path / "results", progress=False)
    assert found.reason.sel(seed=1).squeeze().item() == "RuntimeError: bad luck"
    np.testing.assert_array_equal(
        found.loss.sel(seed=[0, 2, 3]), side_by_side.loss.sel(seed=[0, 2, 3])
    )


@pytest.mark.slow  # Lanes, compiled.
def test_a_program_that_raises_is_run_again_member_by_member(tmp_path, side_by_side, monkeypatch):
    from flowlift.flow.side_by_side import Lanes

    run, fail = Lanes.run, []

    def once(lanes):
        if lanes.waiting > 1:
            fail.append(lanes.waiting)
            raise RuntimeError("RESOURCE_EXHAUSTED")
        return run(lanes)

    monkeypatch.setattr(Lanes, "run", once)
    study = read(tmp_path, TINY, *SEEDS, "flow.batch=2")
    found = sweep.run_study(study, tmp_path / "results", progress=False)
    assert fail
    np.testing.assert_array_equal(found.loss, side_by_side.loss)


@pytest.mark.slow  # Lanes, compiled.
def test_an_interruption_keeps_what_is_finished_and_where_the_others_stand(
    tmp_path, side_by_side, monkeypatch
):
    from flowlift.sweep.progress import Progress

    study = read(tmp_path, TINY, *SEEDS, "flow.batch=2")
    told = []

    def stop(self, cell):
        def on_run(seed, solution):
            told.append(seed)
            raise KeyboardInterrupt

        return on_run

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_run", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep.run_study(study, tmp_path / "results", progress=False)
    known = sweep.run_study(
        read(tmp_path, TINY, *SEEDS, "flow.batch=2"), tmp_path / "results", progress=False
    )
    assert len(told) == 1
    np.testing.assert_array_equal(known.loss, side_by_side.loss)


_KILLED = """
import os, signal, sys
import jax
from flowlift import studies, sweep
from flowlift.sweep.progress import Progress

jax.config.update("jax_enable_x64", True)
# As it is killed when the first run has ended, and another is under way.
Progress.on_run = lambda self, cell: lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sweep.run_study(studies.read_study(sys.argv[1]), sys.argv[2], every=0, progress=False)
"""


@pytest.mark.slow  # A process of its own, and lanes, compiled.
def test_kill_9_loses_no_more_than_legs(tmp_path, side_by_side):
    study = read(tmp_path, TINY.replace("solver", "batch = 2\nsolver"), *SEEDS)
    (tmp_path / "study.toml").write_text(studies.to_toml(study))
    given = [str(tmp_path / "study.toml"), str(tmp_path / "results")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *given], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    # With `every` of 0 a run is written as it ends, and the other one where it stood.
    assert len(finished(tmp_path / "results")) == 1
    assert list((tmp_path / "results" / "running").glob("*.npz"))
    found = sweep.run_study(study, tmp_path / "results", progress=False)
    for name in ("loss", "gradient_norm", "steps"):
        np.testing.assert_array_equal(found[name], side_by_side[name])
