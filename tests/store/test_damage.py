"""A damaged file is named, set aside and computed again; what is no file of ours stops nothing."""

import concurrent.futures
import dataclasses
import errno
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import h5py
import made_up_store
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from study_text import TEXT

from flowlift import files, store, studies, sweep
from flowlift.cli import main
from flowlift.plot import save
from flowlift.reserved import RESERVED
from flowlift.store import cells as store_cells
from flowlift.store import digests, schema
from flowlift.store.index import Watch
from flowlift.store.names import CELLS, CLAIMS, DAMAGE, INDEX, SET_ASIDE
from flowlift.studies import grid
from flowlift.sweep import dispatch, work
from flowlift.sweep import run as run_module
from flowlift.sweep.certification import CERTIFICATE


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(TEXT)
    return studies.read_study(file, ["lift.sizes=[4]", "seeds=4", "chunk=2"])


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "results"
    made_up_store.made_up_store(study, folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "results"))


def files_of(folder):
    return sorted((folder / CELLS).glob("*.nc"))


def swap(file, others):
    """Another cell's file, of the same length: the byte count tells nothing."""
    other = next(o for o in others if o != file)
    assert other.stat().st_size == file.stat().st_size
    file.write_bytes(other.read_bytes())


def scramble(file, _):
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 200] = os.urandom(200)
    file.write_bytes(raw)


def flip(file, _):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 1
    file.write_bytes(raw)


def edit(file, _):
    """A number set with the means of HDF5, in the way of a well-meaning hand."""
    with h5py.File(file, "r+") as data:
        data["final_loss"][0, 0] = 1e-30


def edit_and_keep_the_digest(file, _):
    raw = file.read_bytes()
    buffer = io.BytesIO(digests.unsealed(raw)[0])
    with h5py.File(buffer, "r+") as data:
        data["final_loss"][0, 0] = 1e-30
    file.write_bytes(buffer.getvalue() + raw[-digests._LENGTH :])


def tear(file, _):
    file.write_bytes(file.read_bytes()[:1000])


def empty(file, _):
    file.write_bytes(b"")


HARMS = [swap, scramble, flip, edit, edit_and_keep_the_digest, tear, empty]


@pytest.mark.parametrize(
    ("harm", "indexed"),
    [(harm, True) for harm in HARMS] + [(harm, False) for harm in (swap, scramble, edit)],
)
def test_damage_is_noticed_named_and_set_aside(study, folder, harm, indexed):
    before = store.load(folder)
    assert store.remarks(before) == []
    victim = files_of(folder)[0]
    lost = set(store.read_index(folder)[victim.name].runs)
    harm(victim, files_of(folder))
    if not indexed:
        shutil.rmtree(folder / INDEX)
    with pytest.warns(UserWarning, match=rf"{victim.name} was moved to .*set_aside"):
        found = store.load(folder)
    assert [f.name for f in (folder / SET_ASIDE).iterdir()] == [victim.name]
    gone = np.isin(before["run"].values, sorted(lost))
    assert gone.sum() == 2
    there = found["run"].reindex_like(before["run"], fill_value="").values
    assert np.array_equal(there, np.where(gone, "", before["run"].values))
    # The answer says so, now and later, until the runs are there again.
    for results in (found, store.load(folder)):
        (said,) = store.remarks(results)
        assert victim.name in said
        assert ("2 runs of this study are missing" in said) or not indexed
        assert "run the study again" in said
    for cell in studies.cells(study):
        if set(cell.runs) & lost:
            store_cells.write_cell(made_up_store.made_up_cell(cell), cell, folder)
    again = store.load(folder)
    xarray.testing.assert_identical(again, before)


def test_a_run_computes_again_what_is_damaged(study, folder, monkeypatch):
    """Before the runs, not only once they are read: nobody has to run a study twice."""
    before, computed = store.load(folder), []

    def compute(study, cell, directory, manner, watch, on_run):
        computed.append(cell)
        store_cells.write_cell(made_up_store.made_up_cell(cell), cell, directory)
        return True

    monkeypatch.setattr(run_module, "compute_and_store", compute)
    for harm in (scramble, swap):
        victim = files_of(folder)[-1]
        harm(victim, files_of(folder))
        with pytest.warns(UserWarning, match=victim.name):
            after = sweep.run_study(study, folder, progress=False)
        xarray.testing.assert_identical(after, before)
    assert [cell.name for cell in computed] == [victim.stem] * 2
    # Nothing that was set aside is overwritten by what is set aside after it.
    assert len(list((folder / SET_ASIDE).iterdir())) == 2


def test_a_worker_sets_a_damaged_cell_aside(study, folder):
    cell = next(iter(studies.cells(study)))
    path = store_cells.path_of(cell, folder)
    scramble(path, None)
    with pytest.warns(UserWarning, match="its content is not what was written"):
        assert store_cells.read_cell(cell, folder) is None
    assert not path.exists()
    assert store.damages(folder)[0].runs == tuple(sorted(cell.runs))


def test_an_altered_line_of_the_index_loses_nothing(study, folder):
    before = store.load(folder)
    for file in (folder / INDEX).iterdir():
        text = file.read_text()
        run = next(iter(studies.cells(study))).runs[0]
        assert run in text
        file.write_text(text.replace(run, run[::-1]))
    xarray.testing.assert_identical(store.load(folder), before)


def test_a_copied_store_is_known_by_its_digests(folder, monkeypatch):
    """Times of change are those of the copy; no cell is opened as one for that."""
    for file in files_of(folder):
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr(store_cells, "read_with_entry", None)
    assert set(store_cells.index(folder)) == {file.name for file in files_of(folder)}


def test_a_restored_older_file_of_a_cell_is_no_damage(study, folder):
    """A backup of a cell that has grown since: what it holds is true."""
    cell = next(iter(studies.cells(study)))
    part = made_up_store.made_up_cell(cell).isel(seed=[0])
    other = folder.parent / "other"
    store_cells.write_cell(part, cell, other)
    shutil.copy(store_cells.path_of(cell, other), store_cells.path_of(cell, folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = store.load(folder)
    assert cell.runs[0] in results["run"].values
    assert cell.runs[1] not in results["run"].values


def test_every_program_reads_a_sealed_file(whole):
    file = files_of(whole)[0]
    direct = xarray.load_dataset(file, engine="h5netcdf")
    xarray.testing.assert_identical(direct, store_cells.read_file(file))
    raw = file.read_bytes()
    content, digest = digests.unsealed(raw)
    assert digests.sealed(content) == raw
    assert digests.seal_of(file) == digest
    assert digests.unsealed(content) == (content, "")


# What is no cell.


def litter(place: Path):
    """One of each kind of thing that is no file, under names like ours."""
    place.mkdir(exist_ok=True)
    for ending in (".nc", ".jsonl", ".json", ".npz"):
        os.symlink(place / "nowhere", place / f"dangling{ending}")
        os.symlink(place / f"loop{ending}", place / f"loop{ending}")
        (place / f"folder{ending}").mkdir()
        os.mkfifo(place / f"pipe{ending}")
    socket.socket(socket.AF_UNIX).bind(str(place / "s.nc"))
    (place / "empty.json").write_text("")
    (place / "list.json").write_text("[1, 2]")
    (place / "wrong.json").write_text('{"host": 3, "runs": 4}')
    (place / "words.jsonl").write_bytes(b'\xff\xfe\n{"file": 3}\n[]\n\n')


def test_what_is_no_file_of_ours_stops_nothing(study, folder, monkeypatch):
    # A socket's name may be 107 characters long.
    monkeypatch.chdir(folder)
    before = store.load(folder)
    for room in (CELLS, INDEX, CLAIMS):
        litter(Path(room))
    xarray.testing.assert_identical(store.load(folder), before)
    assert store.status(folder, store_cells.reread).done == 4
    assert list(store.claims(folder)) == []
    monkeypatch.setattr(run_module, "compute_and_store", None)
    xarray.testing.assert_identical(sweep.run_study(study, folder, progress=False), before)


@pytest.mark.parametrize("room", [CELLS, INDEX])
def test_a_file_or_a_link_in_the_place_of_a_folder(study, folder, room):
    before = store.load(folder)
    elsewhere = folder.parent / "elsewhere"
    shutil.move(folder / room, elsewhere) if (folder / room).exists() else elsewhere.mkdir()
    os.symlink(elsewhere, folder / room)
    xarray.testing.assert_identical(store.load(folder), before)
    (folder / room).unlink()
    (folder / room).write_text("a file")
    if room == CELLS:
        with pytest.raises(store.NothingStored, match="run the study first"):
            store.load(folder)
    else:
        xarray.testing.assert_identical(store.load(folder), before)


def test_a_folder_where_a_cell_belongs_is_set_aside(study, tmp_path):
    cell = next(iter(studies.cells(study)))
    store_cells.path_of(cell, tmp_path).mkdir(parents=True)
    with pytest.warns(UserWarning, match="a folder where a cell belongs"):
        store_cells.write_cell(made_up_store.made_up_cell(cell), cell, tmp_path)
    assert store_cells.read_cell(cell, tmp_path) is not None


# Errors of the system are no damage.


@pytest.mark.parametrize(
    ("number", "indexed"), [(errno.EMFILE, True), (errno.ENFILE, False), (errno.EIO, False)]
)
def test_an_error_of_the_system_sets_nothing_aside(folder, monkeypatch, number, indexed):
    before = store.load(folder)
    if not indexed:
        shutil.rmtree(folder / INDEX)
    victim, original = files_of(folder)[1], open

    def refusing(path, *args, **kwargs):
        if str(path) == str(victim):
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refusing)
        with pytest.raises(files.NotRead, match=rf"{victim.name}' could not be read .*; \w"):
            store.load(folder)
        with pytest.raises(files.NotRead):
            store_cells.read_file(victim)
    assert not (folder / SET_ASIDE).exists()
    xarray.testing.assert_identical(store.load(folder), before)


OPEN_FILES = """
import resource, sys
from pathlib import Path
from flowlift import store
store.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
try:
    while True:
        kept.append(open("/dev/null"))
except OSError:
    pass
try:
    store.load(sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_process_with_too_many_open_files_loses_nothing(folder):
    done = subprocess.run(
        [sys.executable, "-c", OPEN_FILES, str(folder)], capture_output=True, text=True, timeout=200
    )
    assert "Too many open files" in done.stdout, done.stderr[-500:]
    assert not (folder / SET_ASIDE).exists()


def test_a_store_that_cannot_be_written_can_be_read(folder, monkeypatch):
    """Without its index too; damage is said, and stays where it is."""
    before = store.load(folder)
    shutil.rmtree(folder / INDEX)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    opened = os.open
    monkeypatch.setattr(
        os, "open", lambda p, f, *a, **k: refuse() if f & os.O_CREAT else opened(p, f, *a, **k)
    )
    xarray.testing.assert_identical(store.load(folder), before)
    assert store.status(folder, store_cells.reread).done == 4
    assert not (folder / INDEX).exists()
    victim = files_of(folder)[0]
    scramble(victim, None)
    with pytest.warns(UserWarning, match="is left out: its content"):
        found = store.load(folder)
    assert victim.name in store.remarks(found)[0]
    assert victim.exists()


# Old files, versions.


def test_files_without_a_digest_are_checked_by_what_they_hold(study, tmp_path):
    folder = tmp_path / "results"
    store_cells.write_study(study, folder)
    first, second, *_ = studies.cells(study)
    (folder / CELLS).mkdir()
    for cell in (first, second):
        old = made_up_store.made_up_cell(cell).drop_vars("versions").assign_attrs(schema=2)
        store_cells.path_of(cell, folder).write_bytes(store_cells.netcdf_bytes(old))
    results = store.load(folder)
    assert set(np.ravel(results["versions"].values)) == {"flowlift 0"}
    before, after = (store_cells.path_of(c, folder) for c in (first, second))
    assert before.stat().st_size == after.stat().st_size
    after.write_bytes(before.read_bytes())
    with pytest.warns(UserWarning, match="it holds other runs than those it was indexed with"):
        found = store.load(folder)
    assert "2 runs of this study" in store.remarks(found)[0]
    scramble(before, None)
    raw = bytearray(before.read_bytes())
    raw[:100] = bytes(100)
    before.write_bytes(raw)
    with (
        pytest.warns(UserWarning, match="it is no readable cell"),
        pytest.raises(store.NothingStored, match="Damaged files were left out"),
    ):
        store.load(folder)


def test_versions_are_kept_for_each_run_and_said_where_they_differ(study, tmp_path):
    store_cells.write_study(study, tmp_path)
    said = ["flowlift 0.1.0, jax 0.5.0", "flowlift 0.1.0, jax 0.6.0"]
    cells = list(grid.cells(study))
    for i, cell in enumerate(cells):
        data = made_up_store.made_up_cell(cell, versions=said[i % 2])
        store_cells.write_cell(data, cell, tmp_path)
    with pytest.warns(UserWarning, match="differ in jax 0.5.0, jax 0.6.0"):
        results = store.load(tmp_path)
    (remark,) = store.remarks(results)
    assert "2 sets of versions and machines" in remark
    for i, cell in enumerate(cells):
        there = results["versions"].values[np.isin(results["run"].values, cell.runs)]
        assert set(there) == {said[i % 2]}


def test_damage_says_nothing_of_studies_that_it_does_not_touch(study, folder):
    (folder / DAMAGE).write_text('{"file": "cells/x.nc", "why": "it was", "runs": ["0"]}\n{"fi')
    assert store.remarks(store.load(folder)) == []


# Parts of dead writers.


def test_parts_of_dead_writers_go_and_those_of_the_living_stay(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host, old = socket.gethostname(), 1e9
    parts = {
        f".{host}+{gone.pid}+abc.part": (old, False),
        f".{host}+{gone.pid}+new.part": (None, True),
        f".{host}+{os.getppid()}+abc.part": (None, True),
        ".elsewhere+1+abc.part": (None, True),
        ".elsewhere+1+old.part": (old, False),
        ".tmpabcdef.part": (old, False),
    }
    for name, (when, _) in parts.items():
        (folder / CELLS / name).write_text("half")
        if when:
            os.utime(folder / CELLS / name, (when, when))
    store.clear_dead(folder)
    for name, (_, stays) in parts.items():
        assert (folder / CELLS / name).exists() == stays, name


# Two masters.


class Bench:
    """Stands for the real one: nothing is drawn, nothing trained."""

    def __init__(self, study, cell):
        self.study = study


@pytest.mark.parametrize("workers", [False, True], ids=["alone", "with workers"])
@pytest.mark.parametrize("chunks", [(2, 2, 2), (1, 2, 4)], ids=["one chunk", "other chunks"])
def test_masters_compute_no_run_twice(study, tmp_path, monkeypatch, chunks, workers):
    """Each leaves what another has claimed, waits for it, and finds it done."""
    computed = []

    class Keeper:
        def __init__(self, study, cell, directory, manner, before):
            self.cell, self.directory = cell, directory

        def add(self, seed, run, data):
            computed.append(run)

        def write(self):
            data = made_up_store.made_up_cell(self.cell)
            store_cells.write_cell(data, self.cell, self.directory)

    def one(bench, seed, path, manner, holder):
        time.sleep(0.1)
        return None, None

    monkeypatch.setattr(work, "_PAUSE", 0.05)
    monkeypatch.setattr(work, "Bench", Bench)
    monkeypatch.setattr(work, "_Keeper", Keeper)
    monkeypatch.setattr(work, "_one", one)
    bar = type("Bar", (), {"on_run": lambda self, cell: None})()

    def master(chunk):
        cells = list(studies.cells(dataclasses.replace(study, chunk=chunk)))
        if not workers:
            return list(run_module._here(study, cells, tmp_path, work.Manner(), bar))
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            hands = dispatch.Dispatcher(study, tmp_path, executor, work.Manner())
            return list(hands.results(cells))

    with concurrent.futures.ThreadPoolExecutor(3) as masters:
        done = list(masters.map(master, chunks))
    assert sorted(computed) == sorted(run for row in grid.rows(study) for run in row.runs)
    assert [len(cells) for cells in done] == [4 // chunk for chunk in chunks]


@pytest.mark.parametrize("workers", [False, True], ids=["alone", "with workers"])
def test_masters_retry_each_failure_once(study, tmp_path, monkeypatch, workers):
    """What failed before is tried again by one of them, and what fails meanwhile by nobody."""
    half = dataclasses.replace(study, seeds=2)
    store_cells.write_study(study, tmp_path)
    for cell in studies.cells(half):
        store_cells.write_cell(
            made_up_store.made_up_cell(cell, result="exception", reason="no luck"), cell, tmp_path
        )
    computed = []

    def one(bench, seed, path, manner, holder):
        time.sleep(0.05)
        computed.append(seed)
        now = f"2026-01-02T00:00:{len(computed):02d}.000+00:00"
        words = {"result": "exception", "reason": "no luck", "ended": now}
        return words, types.SimpleNamespace(loss=[])

    class Keeper:
        def __init__(self, study, cell, directory, manner, before):
            self.cell, self.directory, self.before = cell, directory, before
            self.runs = []

        def add(self, seed, run, data):
            self.runs.append((run, data))

        def write(self):
            runs = [run for run, _ in self.runs]
            part = self.cell.without(set(self.cell.runs) - set(runs))
            data = made_up_store.made_up_cell(part, **self.runs[-1][1])
            store_cells.write_cell(data, self.cell, self.directory)

    monkeypatch.setattr(work, "_PAUSE", 0.05)
    monkeypatch.setattr(work, "Bench", Bench)
    monkeypatch.setattr(work, "_Keeper", Keeper)
    monkeypatch.setattr(work, "_one", one)

    def master(retry):
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            options = {"executor": executor if workers else None, "progress": False}
            sweep.complete_study(study, tmp_path, retry_failed=retry, **options)

    with concurrent.futures.ThreadPoolExecutor(3) as masters:
        list(masters.map(master, [True, True, False]))
    assert sorted(computed) == [0, 1, 2, 3]


def test_a_cell_keeps_what_is_not_tried_again(study, folder):
    cell = next(studies.cells(study))
    data = store_cells.read_cell(cell, folder)
    ended = str(data.ended.values.ravel()[0])
    kept = work._without(data, {cell.runs[0]: ended})
    assert list(kept["run"].values.ravel()) == list(cell.runs[1:])
    assert work._without(data, {cell.runs[0]: "another time"}).identical(data)
    assert work._without(data, dict.fromkeys(cell.runs, ended)) is None


def test_a_watch_believes_lines_of_files_that_stand(study, folder):
    """What is new is read at each look; a file that is gone, or another one, holds nothing."""
    first, second = list(studies.cells(study))[:2]
    lines = sorted((folder / INDEX).glob("*.jsonl"))
    texts = [line.read_bytes() for line in lines]
    for line in lines:
        line.unlink()
    watch, runs = Watch(folder), (*first.runs, *second.runs)
    assert watch.stored(runs) == set()
    for line, text in zip(lines, texts, strict=True):
        # Torn within its last line, then whole.
        line.write_bytes(text[:-5])
        watch.stored(runs)
        line.write_bytes(text)
    assert watch.stored(runs) == set(runs)
    path = store_cells.path_of(first, folder)
    path.write_bytes(os.urandom(path.stat().st_size))
    assert watch.stored(runs) == set(second.runs)
    store_cells.path_of(second, folder).unlink()
    assert watch.stored(runs) == set()


# Commands.


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_exports_and_figures_are_whole_or_absent(folder, tmp_path, monkeypatch):
    results, place = store.load(folder), tmp_path / "place"
    figure = plt.figure()
    writes = {
        "netcdf.nc": lambda file: store.export(results, file, "netcdf"),
        "csv.csv": lambda file: store.export(results, file, "csv"),
        "figure.png": lambda file: save._save(figure, file),
    }
    for name, write in writes.items():
        write(place / name)
        before = (place / name).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(files.NotWritten, match="free some space"):
                write(place / name)
        assert (place / name).read_bytes() == before
    plt.close(figure)
    assert {file.name for file in place.iterdir()} == set(writes)


def test_a_store_says_what_refused_to_be_written(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match=r"choose another place.*same command again"):
        store_cells.write_study(study, tmp_path / "file")


def test_a_part_of_a_study_without_runs_is_no_error(tmp_path, capsys):
    """An array job whose part is empty does nothing, says so, and ends well."""
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    one = ["lift.sizes=[4]", "seeds=1"]
    (row,) = grid.rows(studies.read_study(file, one))
    empty = 1 - int(row.runs[0], 16) % 2
    given = ["--shard", f"{empty}/2", "--output", str(tmp_path / "results")]
    main(["run", str(file), *given, "--set", *one])
    assert f"Shard {empty}/2 has no runs" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["success", str(tmp_path / "results"), "--loss", "0.1"])
    assert ended.value.code == 2


@pytest.mark.parametrize("name", ["", "a/../..", "../../evil"])
def test_a_study_writes_nothing_outside_its_folder(tmp_path, monkeypatch, capsys, name):
    place = tmp_path / "here" / "below"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    (place / "study.toml").write_text(TEXT.replace('"small"', f'"{name}"'))
    for command in ("run", "compare"):
        with pytest.raises(SystemExit) as ended:
            main([command, "study.toml"])
        assert ended.value.code == 2
        assert f"`name` must be the name of a folder below results/, but is {name!r}" in (
            capsys.readouterr().err
        )
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["study.toml"]


def test_an_answer_from_a_damaged_store_says_so(folder, capsys):
    scramble(files_of(folder)[0], None)
    with pytest.warns(UserWarning, match="moved to"):
        main(["export", str(folder)])
    assert "Remark: Damaged files were left out: cells/" in capsys.readouterr().out
    main(["export", str(folder)])
    assert "2 runs of this study are missing" in capsys.readouterr().out


@pytest.mark.parametrize("gone", ["deleted", "a link that leads nowhere", "never run"])
def test_runs_that_are_gone_are_said_beside_those_of_damaged_files(study, tmp_path, gone):
    larger, folder = dataclasses.replace(study, seeds=6), tmp_path / "results"
    made_up_store.made_up_store(larger, folder)
    damaged, other, _ = files_of(folder)
    scramble(damaged, None)
    if gone == "never run":
        store_cells.write_study(dataclasses.replace(study, seeds=8), folder)
    else:
        other.unlink()
    if gone.startswith("a link"):
        other.symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="moved to"):
        said = store.remarks(store.load(folder))
    assert "2 runs of this study are missing for it" in said[0]
    assert said[1].startswith(f"2 of the {8 if gone == 'never run' else 6} runs")
    assert len(said) == 2


# Names of axes.

RNN = 'module={kind="unrolled_rnn", inputs=2, steps=2}'


def test_an_axis_named_like_a_result_is_loaded_under_its_whole_key(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    given = [RNN, 'vary={"module.steps" = [2, 3]}', "lift.ratios={}", "lift.weights_over={}"]
    study = studies.read_study(file, given)
    made_up_store.made_up_store(study, tmp_path / "results")
    results = store.load(tmp_path / "results")
    assert results["module.steps"].values.tolist() == [2, 3]
    for (_, steps), runs in [(row.variant[0], row.runs) for row in grid.rows(study)]:
        there = results["run"].sel({"module.steps": steps}).values
        assert set(runs) <= set(there.ravel())


@pytest.mark.parametrize("axis", ["steps", "loss", "host", "versions", "time", "seed"])
def test_an_axis_that_bears_a_name_of_results_is_refused_before_the_runs(tmp_path, axis):
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    settings = '{ a = { "flow.rtol" = 1e-5 }, b = { "flow.rtol" = 1e-6 } }'
    study = studies.read_study(file, [f"alternatives={{ {axis} = {settings} }}"])
    with pytest.raises(ValueError, match=rf"is called '{axis}'; rename it"):
        sweep.run_study(study, tmp_path / "results", progress=False)
    assert not (tmp_path / "results").exists()


def test_whatever_a_cell_holds_is_reserved():
    assert set(schema.BESIDE) | set(CERTIFICATE) <= RESERVED
    cell = grid.Cell((), 4, (0,), ("0" * 16,))
    assert {str(name) for name in made_up_store.made_up_cell(cell).variables} <= RESERVED
