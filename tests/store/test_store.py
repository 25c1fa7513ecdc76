"""Every run is stored exactly once, whatever dies; what is stored is what docs/store.md says."""

import collections
import concurrent.futures
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import xarray
from crashing import Deadly, Traces
from study_text import TEXT

from flowlift import answers, store, studies, sweep
from flowlift.files import NotRead, NotWritten
from flowlift.flow import checkpoint_files
from flowlift.reserved import RESERVED
from flowlift.store import folding
from flowlift.store.names import CELLS, CHECKPOINTS, CLAIMS
from flowlift.sweep import cell as cell_module
from flowlift.sweep import dispatch, work
from flowlift.sweep import run as run_module

BESIDE = ["seconds", "run_seconds", "compile_seconds", "ended", "host"]
OLD = Path(__file__).parents[1] / "reference" / "store_schema_1"
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One size, four seeds, two cells."""
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(TEXT)
    # So tight that a flow takes several legs, after each of which it can be killed.
    tight = ["flow.rtol=1e-11", "flow.atol=1e-12"]
    return studies.read_study(file, ["lift.sizes=[4]", "seeds=4", "chunk=2", *tight])


@pytest.fixture(scope="module")
def expected(study, tmp_path_factory):
    return sweep.run_study(study, tmp_path_factory.mktemp("expected"), progress=False)


def test_whatever_a_study_stores_is_reserved(expected):
    """No axis and no observer can bear a name that a store writes."""
    written = {str(name) for name in (*expected.variables, *expected.dims)}
    assert written <= RESERVED
    assert {"loss", "final_loss", "run_seconds", "solver_used", "graph_hash"} <= written


def assert_same(results, expected):
    xarray.testing.assert_equal(results.drop_vars(BESIDE), expected.drop_vars(BESIDE))


def each_once(folder, study):
    """Identities in the files, which must be those of the study and no run twice."""
    files = [xarray.load_dataset(file) for file in (folder / CELLS).glob("*.nc")]
    found = [str(run) for data in files for run in data["run"].values.ravel()]
    wanted = [run for row in studies.grid.rows(study) for run in row.runs]
    assert sorted(found) == sorted(wanted)


def runs_of(study):
    (row,) = studies.grid.rows(study)
    return row.runs


# Failures are results.


@pytest.mark.parametrize(
    ("error", "result", "reason"),
    [
        (MemoryError("no more"), "out of memory", "MemoryError: no more"),
        # Differs from the first by its name alone.
        pytest.param(
            RuntimeError("RESOURCE_EXHAUSTED: 9 GB"),
            "out of memory",
            "RuntimeError: RESOURCE_EXH",
            marks=SLOW,
        ),
        (ZeroDivisionError("1/0\nmore"), "exception", "ZeroDivisionError: 1/0"),
    ],
)
def test_an_exception_in_a_run_is_its_result(
    study, expected, tmp_path, monkeypatch, error, result, reason
):
    original, broken = work.Checkpoints.keep, []

    def keep(self, checkpoint, engine, **options):
        original(self, checkpoint, engine, **options)
        if runs_of(study)[1] in str(self.path) and checkpoint.trace.legs == 3:
            # What is known of it ends with its last record, some steps ago.
            broken.append(checkpoint.trace.times[-1])
            assert broken[0] <= checkpoint.trace.time
            raise error

    monkeypatch.setattr(work.Checkpoints, "keep", keep)
    results = sweep.run_study(study, tmp_path, progress=False)
    bad = results.sel(size=4, seed=1)
    assert (str(bad.result.values), str(bad.reason.values)[: len(reason)]) == (result, reason)
    assert "\n" not in str(bad.reason.values)
    # Its trajectory up to there is that of the whole run, and its lift is known.
    whole = expected.sel(size=4, seed=1)
    known = np.isfinite(bad.loss.values)
    assert 3 < known.sum() < np.isfinite(whole.loss.values).sum()
    np.testing.assert_array_equal(bad.loss.values[known], whole.loss.values[known])
    assert float(bad.end_time) == broken[0]
    assert int(bad.edges) == int(whole.edges)
    others = [0, 2, 3]
    assert_same(results.sel(seed=others), expected.sel(seed=others))
    table = answers.summary(results)
    assert f"1 {result}" in table.result[4]
    # It is retried only when asked, and what it gives then counts.
    monkeypatch.setattr(work.Checkpoints, "keep", original)
    assert_same(sweep.run_study(study, tmp_path, progress=False), results)
    again = sweep.run_study(study, tmp_path, retry_failed=True, progress=False)
    assert_same(again, expected)
    assert store.status(tmp_path, lambda d: None).failed == ()


def test_a_run_that_fails_before_its_lift_is_drawn_is_a_result(study, tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError

    original = cell_module.Bench.__init__

    def without_memory(bench, *given):
        original(bench, *given)
        bench._make = refuse

    monkeypatch.setattr(cell_module.Bench, "__init__", without_memory)
    results = sweep.run_study(study, tmp_path, progress=False)
    assert np.all(results.result.values == "out of memory")
    assert np.all(results.end_time.values == 0)
    assert np.isnan(results.loss.values).all()
    assert np.all(results.edges.values == -1)
    assert answers.summary(results).result.tolist() == ["4 out of memory"]
    assert answers.success_probability(results, 0.1).converged.tolist() == [0]


# The second death comes after a first.
@pytest.mark.parametrize("deaths", [pytest.param(1, marks=SLOW), 2])
def test_a_run_that_takes_its_worker_down_twice_is_a_result(study, expected, tmp_path, deaths):
    """One death is bad luck: the cell is tried again alone. Another death there is the run's."""
    victim = runs_of(study)[0]
    pool = Traces(tmp_path, victim, deaths)
    results = sweep.run_study(study, tmp_path, executor=pool, progress=False)
    assert pool.left == 0
    each_once(tmp_path, study)
    bad = results.sel(size=4, seed=0)
    crashed = str(bad.result.values) == "worker crashed"
    assert crashed == (deaths == 2)
    others = [1, 2, 3] if crashed else [0, 1, 2, 3]
    assert_same(results.sel(seed=others), expected.sel(seed=others))
    if crashed:
        assert "left no checkpoint" in str(bad.reason.values)
        assert int(bad.edges) == int(expected.edges.sel(size=4, seed=0))
        again = sweep.run_study(study, tmp_path, retry_failed=True, progress=False)
        assert_same(again, expected)
    assert list((tmp_path / CLAIMS).iterdir()) == []


def test_workers_that_never_begin_are_an_error(study, tmp_path):
    pool = Traces(tmp_path, "", 0)
    pool.submit = lambda *a, **k: broken_future()
    with pytest.raises(sweep.WorkersLost, match="Workers died 3 times before they had begun a run"):
        sweep.run_study(study, tmp_path, executor=pool, progress=False)


def test_workers_that_begin_now_and_then_are_none(study, tmp_path, monkeypatch):
    """A cluster fails cells that only waited on dying workers: not while others are finished."""
    dying = {0: 0, 1: 1, 2: 3, 3: 0}
    monkeypatch.setattr(dispatch, "compute", lambda *given: True)
    left = [dict(dying)]

    def submit(fn, text, fields, *others):
        (seed,) = fields["seeds"]
        if left[0][seed]:
            left[0][seed] -= 1
            return broken_future()
        future = concurrent.futures.Future()
        future.set_result(fn(text, fields, *others))
        return future

    executor = SimpleNamespace(submit=submit)
    manner, single = work.Manner(), dataclasses.replace(study, chunk=1)
    cells = list(studies.cells(single))
    found = list(dispatch.Dispatcher(single, tmp_path, executor, manner).results(cells))
    assert sorted(cell.seeds for cell in found) == [(0,), (1,), (2,), (3,)]


def test_an_executor_that_drops_its_cells_is_said(study, tmp_path):
    def submit(*_):
        future = concurrent.futures.Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    executor = SimpleNamespace(submit=submit)
    with pytest.raises(sweep.WorkersLost, match="scheduler is gone; bring it back and"):
        sweep.run_study(study, tmp_path, executor=executor, progress=False)


def broken_future():
    future = concurrent.futures.Future()
    future.set_exception(BrokenProcessPool("no process"))
    return future


# Kills.


class Killed(BaseException):
    """Stands for kill -9 within one process."""


def test_a_killed_study_goes_on_with_the_same_bits(study, expected, tmp_path, monkeypatch):
    """Finished runs of an unfinished cell are there, and the one under way is gone on with."""
    original, legs = work.Checkpoints.keep, []

    def keep(self, checkpoint, engine, **options):
        original(self, checkpoint, engine, **options)
        if runs_of(study)[1] in str(self.path):
            legs.append(checkpoint.trace.legs)
            if len(legs) == 4:
                raise Killed

    monkeypatch.setattr(work.Checkpoints, "keep", keep)
    with pytest.raises(Killed):
        sweep.run_study(study, tmp_path, every=0.0, progress=False)
    found = store.status(tmp_path, lambda d: None)
    assert (found.done, found.missing) == (1, 3)
    assert [f.stem for f in (tmp_path / CHECKPOINTS).iterdir()] == [runs_of(study)[1]]
    monkeypatch.setattr(work.Checkpoints, "keep", original)

    def refuse(path):
        raise NotRead(path, OSError(errno.EMFILE, "Too many open files"))

    # A checkpoint that cannot be read now is neither torn nor the result of a run.
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "open_regular", refuse)
        with pytest.raises(NotRead, match="raise the limit on open files"):
            sweep.run_study(study, tmp_path, every=0.0, progress=False)
    assert [f.stem for f in (tmp_path / CHECKPOINTS).iterdir()] == [runs_of(study)[1]]
    assert_same(sweep.run_study(study, tmp_path, every=0.0, progress=False), expected)
    each_once(tmp_path, study)
    assert list((tmp_path / CHECKPOINTS).iterdir()) == []
    assert max(legs) == 4


# The same flows a third time; the two alone are in the test above and in `test_folding.py`.
@SLOW
def test_a_run_goes_on_from_its_checkpoint_beside_folded_cells(
    study, expected, tmp_path, monkeypatch
):
    """The cells before it are in one file when it is gone on with, with the same bits."""
    cells_of_one, third = dataclasses.replace(study, chunk=1), runs_of(study)[2]
    original, legs = work.Checkpoints.keep, []

    def keep(self, checkpoint, engine, **options):
        original(self, checkpoint, engine, **options)
        if third in str(self.path):
            legs.append(checkpoint.trace.legs)
            if len(legs) == 4:
                raise Killed

    monkeypatch.setattr(work.Checkpoints, "keep", keep)
    with pytest.raises(Killed):
        sweep.run_study(cells_of_one, tmp_path, every=0.0, progress=False)
    assert folding.fold(tmp_path) == 2
    assert [f.stem for f in (tmp_path / CHECKPOINTS).iterdir()] == [third]
    (file,) = (tmp_path / CELLS).iterdir()
    before = file.read_bytes()
    results = sweep.run_study(cells_of_one, tmp_path, every=0.0, progress=False)
    assert_same(results, expected)
    each_once(tmp_path, study)
    # Not from its start: legs go on where they were, and what is folded is not computed again.
    assert legs[:4] == [1, 2, 3, 4]
    assert min(legs[4:]) > 4
    assert file.read_bytes() == before
    assert list((tmp_path / CHECKPOINTS).iterdir()) == []


def test_a_foreign_checkpoint_is_set_aside(study, expected, tmp_path):
    path = tmp_path / CHECKPOINTS / f"{runs_of(study)[2]}.npz"
    path.parent.mkdir()
    path.write_text("something else")
    with pytest.warns(UserWarning, match="no checkpoint of this run"):
        results = sweep.run_study(study, tmp_path, progress=False)
    assert_same(results, expected)
    assert (tmp_path / "set_aside" / path.name).read_text() == "something else"


# Flows are computed; `test_damage.py` has masters of every kind, whose runs are made up.
@SLOW
def test_two_masters_do_no_harm(study, expected, tmp_path, monkeypatch):
    """What a live writer claims is left for last, and computed once that writer is silent."""
    monkeypatch.setattr(sys.modules["flowlift.store.claims"], "SILENCE", 2.0)
    first = next(iter(studies.cells(study)))
    pool = Traces(tmp_path, "", 0)
    with store.Holder(tmp_path, first.runs, 4) as holder:
        # Another process of this machine, which lives.
        record = json.loads(holder._path.read_text()) | {"process": os.getppid()}
        other = holder._path.with_name("other.json")
        other.write_text(json.dumps(record))
        results = sweep.run_study(study, tmp_path, executor=pool, progress=False)
    assert [tuple(runs) for runs in pool.submitted][-1] == first.runs
    assert len(pool.submitted) >= 3
    assert_same(results, expected)
    each_once(tmp_path, study)


def test_a_full_disk_is_a_clear_error_and_nothing_finished_is_lost(
    study, expected, tmp_path, monkeypatch
):
    original, written = Path.write_bytes, []

    def full(self, content):
        written.append(self)
        if len(written) == 2:
            original(self, content[:100])
            raise OSError(28, "No space left on device")
        return original(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(store.StoreError, match=r"No space left.*free some space, and run"):
        sweep.run_study(study, tmp_path, progress=False)
    assert store.status(tmp_path, lambda d: None).done == 2
    assert not list(tmp_path.rglob("*.part"))
    assert_same(sweep.run_study(study, tmp_path, progress=False), expected)


@SLOW
def test_a_disk_that_is_really_full(study, expected, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    # One cell and the small files fit, a second cell does not.
    size = int(1.6 * len(store.cells.netcdf_bytes(expected.isel(seed=[0, 1])))) + 16_384
    # A file system that fills up needs a mount, which is the administrator's right; in containers
    # without it this row has nothing to test.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip(
            "only a privileged user can mount a small disk; a write refused is tested above"
        )
    try:
        with pytest.raises(store.StoreError, match="free some space"):
            sweep.run_study(study, small / "results", progress=False)
        kept = store.load(small / "results")
        assert kept.sizes["seed"] >= 1
        assert_same(kept, expected.sel(seed=kept.seed))
        subprocess.run(["mount", "-o", "remount,size=10m", str(small)], check=True)
        assert_same(sweep.run_study(study, small / "results", progress=False), expected)
    finally:
        subprocess.run(["umount", str(small)], check=True)


# Old stores, schema, exports.


def test_stores_of_schema_1_are_read_and_not_repeated(tmp_path, monkeypatch):
    copy = tmp_path / "old"
    shutil.copytree(OLD, copy)
    study = studies.read_study(copy / "study.toml")
    monkeypatch.setattr(run_module, "compute_and_store", None)
    results = sweep.run_study(study, copy, progress=False)
    assert results.sizes["size"] == 2
    assert set(np.ravel(results.reason.values)) == {""}
    direct = xarray.load_dataset(next((copy / CELLS).glob("*.nc")))
    size = direct["size"].values
    np.testing.assert_array_equal(results.loss.sel(size=size).values, direct.loss.values)
    shutil.rmtree(copy)
    shutil.copytree(OLD, copy)
    found = store.status(copy, store.cells.reread)
    assert (found.study, found.runs, found.done) == ("old", 4, 4)
    assert found.seconds_left == 0
    shutil.rmtree(copy)
    shutil.copytree(OLD, copy)

    def read_only(directory, *_):
        raise NotWritten(directory, PermissionError(errno.EROFS, "Read-only file system"))

    monkeypatch.setattr(store.cells, "write_plan", read_only)
    assert store.status(copy, store.cells.reread) == found


def test_files_of_a_newer_schema_are_refused_and_left_alone(study, expected, tmp_path):
    data = expected.assign_attrs(schema=studies.grid.SCHEMA + 1)
    (tmp_path / CELLS).mkdir()
    data.to_netcdf(tmp_path / CELLS / "new.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="read it with a newer version of flowlift"):
        sweep.run_study(study, tmp_path, progress=False)
    assert (tmp_path / CELLS / "new.nc").exists()


# The least pandas that is admitted needs the argument, of which newer ones warn.
@pytest.mark.filterwarnings("ignore:The 'float_precision' argument")
def test_exports_hold_what_was_run(expected, tmp_path):
    import pandas

    path = store.export(expected, tmp_path / "runs", "csv")
    table = pandas.read_csv(path, float_precision="round_trip")
    assert table.shape[0] == 4
    np.testing.assert_array_equal(table.final_loss, expected.final_loss.sel(size=4).values)
    assert table["run"].tolist() == expected["run"].sel(size=4).values.tolist()
    long = pandas.read_csv(store.export(expected, tmp_path / "along", "csv", along=True))
    assert len(long) == np.isfinite(expected.loss.values).sum()
    assert set(long) == {"size", "seed", "time", *flow_records(expected)}
    whole = store.export(expected, tmp_path / "whole", "netcdf")
    xarray.testing.assert_identical(xarray.load_dataset(whole), expected)
    with pytest.raises(ValueError, match="`kind` must be one of csv, parquet, zarr, netcdf"):
        store.export(expected, tmp_path / "x", "xlsx")
    with pytest.raises(ValueError, match="`along` must be False for 'zarr'"):
        store.export(expected, tmp_path / "x", "zarr", along=True)


def flow_records(results):
    return [str(name) for name, data in results.data_vars.items() if "time" in data.dims]


def test_parquet_and_zarr(expected, tmp_path):
    pytest.importorskip("pyarrow", reason="optional extra")
    pytest.importorskip("zarr", reason="optional extra")
    import pandas

    table = pandas.read_parquet(store.export(expected, tmp_path / "runs", "parquet"))
    pandas.testing.assert_frame_equal(table, store.runs_table(expected))
    again = xarray.open_zarr(store.export(expected, tmp_path / "all", "zarr")).load()
    xarray.testing.assert_equal(again, expected)


def test_missing_packages_are_said(expected, tmp_path, monkeypatch):
    monkeypatch.setitem(store.export.__globals__["_NEEDS"], "csv", "no_such_package")
    with pytest.raises(ImportError, match=r"pip install 'flowlift\[export\]'"):
        store.export(expected, tmp_path / "x", "csv")


# `test_assembling.py` has what is read later, folded too, of files that are made up.
@SLOW
def test_loading_lazily_gives_the_same(study, expected, tmp_path):
    pytest.importorskip("dask", reason="optional extra")
    sweep.run_study(study, tmp_path, progress=False)
    lazy = store.load(tmp_path, lazy=True)
    assert not isinstance(lazy.loss.data, np.ndarray)
    assert_same(lazy.load(), expected)


# In earnest: other processes, and signals.


@SLOW
@pytest.mark.parametrize("deaths", [1, 2])
def test_kill_9_of_a_worker(study, expected, tmp_path, deaths):
    victim, folder = runs_of(study)[0], tmp_path / "deaths"
    folder.mkdir()
    with sweep.spawned_workers(2) as inner:
        pool = Deadly(inner, victim, deaths, folder)
        results = sweep.run_study(
            study, tmp_path / "results", executor=pool, every=0.0, progress=False
        )
    each_once(tmp_path / "results", study)
    assert len(list(folder.iterdir())) == deaths
    bad = results.sel(size=4, seed=0)
    if deaths == 1:
        assert_same(results, expected)
    else:
        assert str(bad.result.values) == "worker crashed"
        known = np.isfinite(bad.loss.values)
        assert known.sum() > 1
        whole = expected.loss.sel(size=4, seed=0).values
        np.testing.assert_array_equal(bad.loss.values[known], whole[known])
        assert_same(results.sel(seed=[1, 2, 3]), expected.sel(seed=[1, 2, 3]))


@SLOW
@pytest.mark.parametrize("workers", [0, 2])
def test_kill_9_of_the_master(study, expected, tmp_path, workers):
    folder = tmp_path / "results"
    file = tmp_path / "study.toml"
    file.write_text(studies.to_toml(study))
    command = [sys.executable, "-m", "flowlift", "run", str(file), "--every", "0"]
    command += ["--output", str(folder), "--workers", str(workers)]
    for _ in range(3):
        master = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and master.poll() is None:
            if list(folder.glob("running/*.npz")):
                break
            time.sleep(0.01)
        master.send_signal(signal.SIGKILL)
        master.wait()
    deadline = time.monotonic() + 60
    while any(claim.alive for claim in store.claims(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    each_once(folder, study)
    assert_same(store.load(folder), expected)


@SLOW
def test_dask_over_tcp_with_a_worker_killed_midway(study, expected, tmp_path):
    distributed = pytest.importorskip("distributed", reason="optional extra")
    folder = tmp_path / "deaths"
    folder.mkdir()
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
        with sweep.dask_workers(cluster.scheduler_address) as inner:
            pool = Deadly(inner, runs_of(study)[0], 1, folder)
            results = sweep.run_study(
                study, tmp_path / "results", executor=pool, every=0.0, progress=False
            )
    assert len(list(folder.iterdir())) == 1
    each_once(tmp_path / "results", study)
    assert_same(results, expected)


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ImportError, match=r"pip install 'flowlift\[dask\]'"),
        sweep.dask_workers("tcp://127.0.0.1:1"),
    ):
        pass


@SLOW
def test_one_compilation_serves_a_shape(study, expected, tmp_path, caplog):
    """Four cells of a known shape compile nothing; four of a new one compile one flow."""
    plan = dataclasses.replace(study.lift, sizes=(4, 5))
    with jax.log_compiles():
        sweep.run_study(dataclasses.replace(study, lift=plan, chunk=1), tmp_path, progress=False)
    said = [record.getMessage() for record in caplog.records]
    # The gradient, the product, and what makes steps.
    ours = [re.match(r"Compiling (?:jit\()?(traced|product|run)\b", text) for text in said]
    compiled = collections.Counter(found.group(1) for found in ours if found)
    assert compiled["traced"] == 1
    assert max(compiled.values()) == 1
    assert len(list((tmp_path / CELLS).iterdir())) == 8
