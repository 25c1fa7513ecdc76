"""Lines of the index whose files are gone are dropped, and nothing is missed for it."""

import os
from pathlib import Path

import made_up_store
import pytest
from study_text import TEXT

from flowlift import store, studies
from flowlift.store import cells as files
from flowlift.store import folding, index, pruning
from flowlift.store.names import CELLS, FOLDED, INDEX
from flowlift.studies import grid


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    return studies.read_study(file, ["seeds=6", "chunk=2"])


@pytest.fixture
def cells(study, tmp_path):
    return made_up_store.made_up_store(study, tmp_path / "results")


@pytest.fixture
def folder(cells, tmp_path):
    return tmp_path / "results"


def lines(folder):
    return b"".join(index.contents(folder).values()).splitlines()


def write(cell, folder):
    files.write_cell(made_up_store.made_up_cell(cell), cell, folder)


def refuse(*_):
    raise AssertionError


def test_a_fold_leaves_the_lines_of_what_is_there(folder, cells, monkeypatch):
    before = store.status(folder, refuse)
    assert len(lines(folder)) == len(cells)
    folding.fold(folder)
    (line,) = lines(folder)
    assert index.file_of(line).startswith(FOLDED)
    # The runs of a damaged file are known though the cells' own lines are gone.
    (name,) = os.listdir(folder / CELLS)
    assert len(index.once_said(folder, name)) == before.done == 12
    assert store.status(folder, refuse) == before


def test_the_index_is_written_again_when_a_third_of_it_is_gone(folder, cells):
    for gone, left in ((1, len(cells)), (3, len(cells) - 3), (len(cells) - 1, 1)):
        for cell in cells[:gone]:
            files.path_of(cell, folder).unlink(missing_ok=True)
        pruning.prune(folder)
        assert len(lines(folder)) == left
    assert [index.file_of(line) for line in lines(folder)] == [f"{cells[-1].name}.nc"]


def test_many_files_of_the_index_become_one(folder, cells, monkeypatch):
    for number, line in enumerate(lines(folder)):
        (folder / INDEX / f"array-{number}.jsonl").write_bytes(line + b"\n")
    before = store.read_index(folder)
    pruning.prune(folder)
    assert len(os.listdir(folder / INDEX)) > len(cells)
    monkeypatch.setattr(pruning, "_MANY", len(cells))
    pruning.prune(folder)
    assert len(os.listdir(folder / INDEX)) == 1
    assert store.read_index(folder) == before


def test_a_line_that_a_writer_adds_meanwhile_stays(folder, cells, study, monkeypatch):
    """Between the reading of the index and its end: the writer's file is longer then, and stays."""
    last, names = cells[-1], pruning.cell_names
    files.path_of(last, folder).unlink()
    folding.fold(folder)
    for old in os.listdir(folder / INDEX):
        os.unlink(folder / INDEX / old)
    # One line is left, and what it speaks of is gone.
    files.index(folder)
    write(cells[0], folder)
    files.path_of(cells[0], folder).unlink()

    def meanwhile(directory):
        found = names(directory)
        write(last, folder)
        return found

    monkeypatch.setattr(pruning, "cell_names", meanwhile)
    monkeypatch.setattr(pruning, "_MANY", 1)
    pruning.prune(folder)
    runs = set(store.latest(store.read_index(folder).values()))
    assert runs == {run for row in grid.rows(study) for run in row.runs}


@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
def test_a_kill_in_the_midst_loses_no_line(folder, cells, monkeypatch, call):
    class Killed(BaseException):
        pass

    def mortal(*_):
        raise Killed

    before = store.read_index(folder)
    monkeypatch.setattr(pruning, "_MANY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, mortal)
        with pytest.raises(Killed):
            pruning.prune(folder)
    assert store.read_index(folder) == before


def test_an_index_that_cannot_be_written_stays(folder, cells, monkeypatch):
    before = index.contents(folder)
    monkeypatch.setattr(pruning, "_MANY", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    pruning.prune(folder)
    assert index.contents(folder) == before


def test_a_watch_sees_what_is_added_to_a_file_of_the_same_name(folder, cells, monkeypatch):
    """The index was pruned, then the same writer goes on: its new file grows beyond the old one."""
    watch, runs = index.Watch(folder), [run for cell in cells for run in cell.runs]
    assert watch.stored(runs) == set(runs)
    for cell in cells[1:]:
        files.path_of(cell, folder).unlink()
    pruning.prune(folder)
    for cell in cells[1:]:
        write(cell, folder)
    for _ in range(9):
        write(cells[0], folder)
    assert watch.stored(runs) == set(runs)
    # A copy of an older line of a file, read later, does not count against the newer one.
    old, *_, new = [line for line in lines(folder) if index.file_of(line) == f"{cells[0].name}.nc"]
    assert old != new
    (folder / INDEX / "z.jsonl").write_bytes(old + b"\n")
    assert watch.stored(runs) == set(runs)


def test_a_watch_reads_each_line_once(folder, cells, monkeypatch):
    """However often it looks: bytes read are bytes written."""
    read, original = [], index.read_bytes

    def counted(path, start=0):
        read.append(len(original(path, start) or b""))
        return original(path, start)

    monkeypatch.setattr(index, "read_bytes", counted)
    watch = index.Watch(folder)
    for _ in range(20):
        write(cells[0], folder)
        assert watch.stored(cells[0].runs) == set(cells[0].runs)
    assert sum(read) == sum(map(len, index.contents(folder).values()))
