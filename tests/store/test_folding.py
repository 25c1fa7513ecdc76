"""Folding changes no answer, whoever is killed, full, late or at work beside it."""

import concurrent.futures
import dataclasses
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import made_up_store
import numpy as np
import pytest
import xarray
from study_text import TEXT

from flowlift import store, studies, sweep
from flowlift.cli import main
from flowlift.store import cells as files
from flowlift.store import folding, gathering
from flowlift.store.names import CELLS, FOLDED, INDEX, LOCK, SET_ASIDE
from flowlift.studies import grid
from flowlift.sweep import run as run_module

OLD = Path(__file__).parents[1] / "reference" / "store_schema_1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(TEXT)
    return studies.read_study(file, ["seeds=6", "chunk=2"])


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "results"
    made_up_store.made_up_store(study, folder)
    return folder


@pytest.fixture(scope="module")
def expected(whole):
    return store.load(whole)


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "results"))


def names(folder):
    return sorted(file.name for file in (folder / CELLS).iterdir())


def folded_files(folder):
    return sorted((folder / CELLS).glob(f"{FOLDED}*.nc"))


def runs_of(study):
    return sorted(run for row in grid.rows(study) for run in row.runs)


def test_a_folded_file_is_read_by_xarray_alone(study, folder, expected):
    assert folding.fold(folder) == 6
    (file,) = folded_files(folder)
    assert names(folder) == [file.name]
    with xarray.open_dataset(file, engine="h5netcdf") as data:
        assert sorted(data["run"].values.tolist()) == runs_of(study)
        assert data.sizes["row"] == 12
        for row in range(12):
            run = data.isel(row=row)
            here = {"size": int(run["size"]), "seed": int(run["seed"])}
            at = expected.sel(here)
            assert str(run["run"].values) == str(at["run"].values)
            np.testing.assert_array_equal(run["loss"].values, at["loss"].values)
    xarray.testing.assert_identical(store.load(folder), expected)
    # There is nothing more to fold.
    assert folding.fold(folder) == 0


def test_a_folded_file_is_checked_when_it_is_read(study, folder, monkeypatch):
    before = store.load(folder)
    folding.fold(folder)
    (file,) = folded_files(folder)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with (
        pytest.warns(UserWarning, match=f"{file.name} was moved to"),
        pytest.raises(store.NothingStored, match=r"Damaged files were left out.*12 runs"),
    ):
        store.load(folder)
    compute = computing(study, monkeypatch)
    xarray.testing.assert_identical(sweep.run_study(study, folder, progress=False), before)
    assert sorted(run for cell in compute for run in cell.runs) == runs_of(study)


def computing(study, monkeypatch):
    """A study computes what is made up; the cells that it asks for."""
    computed = []

    def compute(study, cell, directory, *_):
        computed.append(cell)
        files.write_cell(made_up_store.made_up_cell(cell), cell, directory)
        return True

    monkeypatch.setattr(run_module, "compute_and_store", compute)
    return computed


# Killed at any moment.


class Killed(BaseException):
    """Stands for kill -9 within one process."""


@pytest.mark.parametrize("call", ["replace", "rename", "unlink", "fsync", "open"])
def test_a_fold_killed_at_any_call_of_the_system_loses_nothing(
    study, folder, expected, monkeypatch, call
):
    original, left = getattr(os, call), [0]

    def mortal(*given, **more):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return original(*given, **more)

    for moment in range(1, 40):
        left[0] = moment
        with monkeypatch.context() as patch:
            patch.setattr(os, call, mortal)
            try:
                folding.fold(folder)
                ended = left[0] > 0
            except Killed:
                ended = False
        known = files.index(folder)
        assert set(store.latest(known.values())) == set(runs_of(study))
        found = store.load(folder)
        xarray.testing.assert_identical(found, expected)
        if ended:
            break
    assert ended
    assert moment > 1
    assert not (folder / SET_ASIDE).exists()


DRILL = """
import os, random, shutil, signal, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from flowlift import store
from flowlift.store import cells, folding
whole, place, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
expected = store.load(whole)
draw, hit = random.Random(0), 0
shutil.copytree(whole, place / "timed")
began = time.monotonic(); folding.fold(place / "timed"); took = time.monotonic() - began
for kill in range(kills):
    folder = place / "results"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for _ in range(draw.choice([1, 1, 2])):
        child = os.fork()
        if not child:
            folding.fold(folder)
            os._exit(0)
        time.sleep(draw.uniform(0, 1.2 * took))
        os.kill(child, signal.SIGKILL)
        hit += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert store.load(folder).identical(expected), kill
    folding.fold(folder)
    assert store.load(folder).identical(expected), kill
    assert not (folder / "set_aside").exists()
print("killed", hit)
"""


@pytest.mark.slow
def test_random_kills_of_folds_lose_nothing(whole, tmp_path):
    """Slow: 200 stores are copied, folded and killed."""
    script = DRILL.format(tests=str(Path(__file__).parents[1]))
    command = [sys.executable, "-W", "ignore", "-c", script, str(whole), str(tmp_path), "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    # Most were killed in the midst.
    assert int(done.stdout.split()[-1]) > 100


# Full, read-only, damaged, newer, older.


def test_a_full_disk_is_one_sentence_and_loses_nothing(folder, expected, monkeypatch):
    before = names(folder)

    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(store.StoreError, match=r"No space left.*free some space, and run"):
        folding.fold(folder)
    # Whoever only asks is answered.
    monkeypatch.setattr(folding, "_MANY", 2)
    xarray.testing.assert_identical(store.load(folder), expected)
    assert names(folder) == before


def test_a_read_only_store_answers_without_folding(folder, expected, monkeypatch):
    before, opened = names(folder), os.open

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(
        os, "open", lambda p, f, *a, **k: refuse() if f & os.O_CREAT else opened(p, f, *a, **k)
    )
    monkeypatch.setattr(folding, "_MANY", 2)
    assert folding.fold(folder) == 0
    xarray.testing.assert_identical(store.load(folder), expected)
    assert names(folder) == before


def test_a_damaged_cell_is_named_and_computed_again_and_the_rest_is_folded(
    study, folder, expected, monkeypatch
):
    victim = sorted((folder / CELLS).glob("*.nc"))[2]
    lost = files.index(folder)[victim.name].runs
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 3] ^= 1
    victim.write_bytes(raw)
    with pytest.warns(UserWarning, match=f"{victim.name} was moved to"):
        assert folding.fold(folder) == 5
    assert [damage.runs for damage in store.damages(folder)] == [tuple(sorted(lost))]
    (said,) = store.remarks(store.load(folder))
    assert victim.name in said
    computed = computing(study, monkeypatch)
    xarray.testing.assert_identical(sweep.run_study(study, folder, progress=False), expected)
    assert [cell.runs for cell in computed] == [lost]


def test_a_newer_schema_is_said_and_nothing_is_folded(study, folder):
    cell = next(iter(studies.cells(study)))
    newer = made_up_store.made_up_cell(cell).assign_attrs(schema=grid.SCHEMA + 1)
    newer.to_netcdf(folder / CELLS / "new.nc", engine="h5netcdf")
    before = names(folder)
    with pytest.raises(files.NewerSchema, match="read it with a newer version of flowlift"):
        folding.fold(folder)
    assert names(folder) == before


def test_older_schemas_are_folded_in_the_present_one(study, folder, expected):
    """Each under a layout of its own where it lacks variables."""
    for place, cell in enumerate(studies.cells(study)):
        old = made_up_store.made_up_cell(cell).assign_attrs(schema=3 - place % 2, cell=cell.name)
        if place % 2:
            old = old.drop_vars("versions")
            content = files.netcdf_bytes(old)
        else:
            content = files.sealed(files.netcdf_bytes(old))
        files.path_of(cell, folder).write_bytes(content)
    before = store.load(folder)
    assert folding.fold(folder) >= 5
    xarray.testing.assert_identical(store.load(folder), before)
    xarray.testing.assert_equal(before, expected)
    assert files.read_file(folded_files(folder)[0]).attrs["schema"] == grid.SCHEMA


def test_a_store_of_schema_1_is_folded(tmp_path):
    copy = Path(shutil.copytree(OLD, tmp_path / "old"))
    before = store.load(copy)
    assert folding.fold(copy) == 2
    xarray.testing.assert_identical(store.load(copy), before)


# Beside others.


def test_two_folds_at_once(folder, expected, monkeypatch):
    with folding._alone(folder) as alone:
        assert alone
        assert folding.fold(folder) == 0
    assert (folder / LOCK).exists()
    # And where there are no locks.
    monkeypatch.setattr(folding, "_locked", lambda descriptor: True)
    with concurrent.futures.ThreadPoolExecutor(3) as folds:
        gone = list(folds.map(folding.fold, [folder] * 3))
    assert sum(gone) >= 6
    xarray.testing.assert_identical(store.load(folder), expected)
    assert not (folder / SET_ASIDE).exists()


def test_cells_that_a_live_writer_claims_stay(study, folder, expected):
    cell = next(iter(studies.cells(study)))
    with store.Holder(folder, cell.runs, cell.size):
        assert folding.fold(folder) == 5
        assert files.path_of(cell, folder).exists()
    xarray.testing.assert_identical(store.load(folder), expected)


def test_a_cell_that_grows_while_it_is_folded_keeps_its_runs(study, folder, expected, monkeypatch):
    """A writer that claims nothing, and replaces a cell between its reading and its removal."""
    cell = next(iter(studies.cells(study)))
    data = made_up_store.made_up_cell(cell)
    files.write_cell(data.isel(seed=[0]), cell, folder)
    original = folding.write_whole

    def write(path, content):
        original(path, content)
        files.write_cell(data, cell, folder)

    monkeypatch.setattr(folding, "write_whole", write)
    assert folding.fold(folder) == 5
    monkeypatch.undo()
    xarray.testing.assert_identical(store.load(folder), expected)
    # It has a sign behind its name, and waits for further cells to be folded with.
    (moved,) = set(names(folder)) - {file.name for file in folded_files(folder)}
    assert moved.startswith(f"{cell.name}+")
    xarray.testing.assert_identical(store.load(folder), expected)


@pytest.mark.parametrize("reader", ["load", "checked", "index"])
def test_a_reader_that_loses_its_files_reads_again(study, folder, expected, monkeypatch, reader):
    where = {"load": gathering, "checked": files, "index": files}[reader]
    name = {"load": "_checked", "checked": "_is_whole", "index": "read_with_entry"}[reader]
    original, looked = getattr(where, name), []
    if reader == "index":
        shutil.rmtree(folder / INDEX)

    def meanwhile(*given, **more):
        if not looked:
            looked.append(given)
            with monkeypatch.context() as patch:
                patch.setattr(where, name, original)
                assert folding.fold(folder) == 6
        return original(*given, **more)

    monkeypatch.setattr(where, name, meanwhile)
    if reader == "load":
        xarray.testing.assert_identical(store.load(folder), expected)
        return
    known = files.checked(folder, runs_of(study)) if reader == "checked" else files.index(folder)
    assert looked
    assert set(store.latest(known.values())) == set(runs_of(study))


def test_a_listing_made_while_a_fold_ends_misses_nothing(study, folder, monkeypatch):
    """Neither the new file, which came after it, nor the old ones, which went during it."""
    index = sys.modules["flowlift.store.index"]
    original, looked = index.regular_files, []

    def listing(place, suffix):
        found = original(place, suffix)
        if place.name == CELLS and not looked:
            looked.append(place)
            folding.fold(folder)
            return {}
        return found

    monkeypatch.setattr(index, "regular_files", listing)
    assert set(store.latest(store.read_index(folder).values())) == set(runs_of(study))


# Failures, growth, commands.


def test_a_run_that_failed_and_was_computed_again_counts_once(study, folder, expected):
    first, *_ = studies.cells(study)
    bad = made_up_store.made_up_cell(first, result="exception", reason="it was")
    files.write_cell(bad, first, folder)
    folding.fold(folder)
    assert len(store.status(folder, files.reread).failed) == 2
    # Later by its date or not: what did not fail counts.
    files.write_cell(made_up_store.made_up_cell(first), first, folder)
    xarray.testing.assert_identical(store.load(folder), expected)
    files.write_cell(made_up_store.made_up_cell(first), first.only(first.runs[0]), folder)
    folding.fold(folder)
    xarray.testing.assert_identical(store.load(folder), expected)
    assert store.status(folder, files.reread).failed == ()


def test_few_files_are_left_however_often_is_folded(tmp_path):
    """Each run is written again only when the runs beside it have doubled."""
    known, written = {}, 0
    for number in range(1, 1025):
        cell = entry(f"{number:016x}.nc", 1)
        known[cell.file] = cell
        if number % 4 == 0:
            chosen = folding._chosen(tmp_path, known, 2)
            runs = sum(len(e.runs) for e in chosen)
            known = {name: e for name, e in known.items() if e not in chosen}
            known[f"{FOLDED}{number}"] = entry(f"{FOLDED}{number}", runs)
            written += runs
    assert len(known) <= np.log2(1024) + 1
    assert written <= 1024 * np.log2(1024)
    # One full file of a large store is never written again.
    full = entry(f"{FOLDED}full", 2, folding._FULL)
    assert full not in folding._chosen(tmp_path, known | {full.file: full, **several(9)}, 2)


def entry(file, runs, size=1000):
    rest = {"results": (), "seconds": (), "reasons": {}, "ended": ()}
    return store.Entry(file, ("r",) * runs, 4, (0,) * runs, bytes=size, **rest)


def several(cells):
    return {f"{i}.nc": entry(f"{i}.nc", 1) for i in range(cells)}


def test_commands_answer_from_a_folded_store_as_before(study, folder, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "compute_and_store", None)
    said = []
    for _ in range(2):
        main(["status", str(folder)])
        main(["success", str(folder), "--loss", "0.2"])
        main(["export", str(folder), "--output", str(folder.parent / "table")])
        said.append((capsys.readouterr().out, (folder.parent / "table.csv").read_text()))
        folding.fold(folder)
    assert said[0] == said[1]
    assert "done     12 (12 horizon)" in said[0][0]
    # A second run computes nothing.
    xarray.testing.assert_identical(
        sweep.run_study(study, folder, progress=False), store.load(folder)
    )


def test_a_wider_study_computes_what_a_folded_store_lacks(study, folder, monkeypatch):
    folding.fold(folder)
    computed, wider = computing(study, monkeypatch), dataclasses.replace(study, seeds=8)
    results = sweep.run_study(wider, folder, progress=False)
    assert sorted(seed for cell in computed for seed in cell.seeds) == [6, 6, 7, 7]
    assert results.sizes["seed"] == 8


def test_whoever_loads_many_files_leaves_few(folder, expected, monkeypatch):
    monkeypatch.setattr(folding, "_MANY", 6)
    xarray.testing.assert_identical(store.load(folder), expected)
    assert len(names(folder)) == 1
