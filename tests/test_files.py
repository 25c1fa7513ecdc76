"""Files appear whole or not at all, whatever kills their writer and whenever."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowlift import files

# A child that writes over an old file and kills itself at its k-th line within the package: every
# moment between two lines of a write, one after the other.
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
{setup}
folder = Path(sys.argv[1])
limit = int(sys.argv[2])

def killed_at(k):
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if "flowlift" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == k:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    child = os.fork()
    if child == 0:
        sys.settrace(trace)
        write(folder, k)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

k = 1
while k < limit and killed_at(k):
    check(folder, k)
    k += 1
check(folder, k)
print(k - 1)
"""
TEXTS = """
from flowlift import files
old, new = "old" * 1000, "new, and longer" * 1000
def write(folder, k):
    files.write_text(folder / "file", new)
def check(folder, k):
    found = (folder / "file").read_text()
    assert found in (old, new), (k, found[:20])
    (folder / "file").write_text(old)
(Path(sys.argv[1]) / "file").write_text(old)
"""
CELLS = """
import made_up_store
from flowlift import store, studies
from flowlift.store import cells
from flowlift.studies import read_study
study = read_study(Path(sys.argv[1]) / "study.toml")
cell = next(iter(studies.cells(study)))
whole = made_up_store.made_up_cell(cell)
part = whole.isel(seed=[0])
def write(folder, k):
    cells.write_cell(whole, cell, folder / "results")
def check(folder, k):
    runs = set(store.load(folder / "results")["run"].values.ravel())
    assert runs in ({cell.runs[0]}, set(cell.runs)), k
    assert store.damages(folder / "results") == [], k
    cells.write_cell(part, cell, folder / "results")
cells.write_study(study, Path(sys.argv[1]) / "results")
cells.write_cell(part, cell, Path(sys.argv[1]) / "results")
"""


def deaths(setup, folder, limit):
    code = KILLED.replace("{setup}", setup)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(limit), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def test_kill_9_at_every_line_of_a_write_leaves_the_old_file_or_the_new_one(tmp_path):
    assert deaths(TEXTS, tmp_path, 1000) > 15
    parts = list(tmp_path.glob(".*.part"))
    assert len(parts) > 5
    # They go once their writers are known to be dead, and have been silent for a minute.
    assert files.clear_parts(tmp_path) == []
    for part in parts:
        os.utime(part, (1e9, 1e9))
    assert sorted(files.clear_parts(tmp_path)) == sorted(parts)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_kill_9_at_every_line_of_the_write_of_a_cell_loses_no_run(tmp_path):
    from study_text import TEXT

    (tmp_path / "study.toml").write_text(TEXT)
    assert deaths(CELLS, tmp_path, 400) > 40


NUMBERS = [
    (errno.ENOSPC, "free some space"),
    (errno.EROFS, "choose a place that is not read-only"),
    (errno.EACCES, "give yourself the right to it, or choose another place"),
    (errno.EMFILE, "raise the limit on open files"),
    (errno.EPROTO, "remove the cause and try again"),
]


@pytest.mark.parametrize(("number", "remedy"), NUMBERS, ids=lambda x: str(x))
def test_each_error_of_the_system_has_its_own_remedy(tmp_path, monkeypatch, number, remedy):
    place = tmp_path / "file"
    place.write_text("old")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(files.NotWritten) as caught:
        files.write_text(place, "new")
    assert str(caught.value).count("\n") == 0
    assert remedy in str(caught.value)
    assert str(place) in str(caught.value)
    assert ("free some space" in str(caught.value)) == (number == errno.ENOSPC)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("file", "old")]


def test_a_place_that_is_no_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(files.NotWritten, match="choose another place"):
        files.write_text(tmp_path / "file" / "below", "new")
    with pytest.raises(files.NotWritten, match=r"no file.*choose another place"):
        files.write_text(tmp_path / "folder", "new")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.NotWritten, match="choose another place"):
        files.write_text(tmp_path / "pipe", "new")
    assert files.read_bytes(tmp_path / "pipe") is None
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path):
    place = tmp_path / "data.zarr"

    def write(name, fail=False):
        def into(folder):
            (Path(folder) / name).write_text("x")
            if fail:
                raise OSError(errno.ENOSPC, "No space left on device")

        files.write_whole_folder(place, into)

    write("a")
    with pytest.raises(files.NotWritten, match="free some space"):
        write("b", fail=True)
    assert [f.name for f in place.iterdir()] == ["a"]
    write("c")
    assert [f.name for f in place.iterdir()] == ["c"]
    assert [f.name for f in tmp_path.iterdir()] == ["data.zarr"]
    shutil.rmtree(place)


def test_texts_are_utf_8_in_every_locale(tmp_path):
    code = "import sys, pathlib; from flowlift import files; "
    code += r"files.write_text(pathlib.Path(sys.argv[1]), 'Gr\xf6\xdfe \u2264 1')"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    subprocess.run(command, check=True, env=environment, timeout=200)
    assert (tmp_path / "x").read_bytes().decode() == "Größe ≤ 1"
