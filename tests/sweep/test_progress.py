"""The time left is said as cells finish, on a terminal and without one, and corrected."""

import datetime
import itertools
import re
import sys
import types

import pytest

from flowlift import bars, store
from flowlift.studies.grid import Cell
from flowlift.studies.rows import Row
from flowlift.sweep import progress
from flowlift.sweep.progress import Progress
from flowlift.sweep.run import in_order

CELLS = [Cell((), size, (0, 1), (f"{size}a", f"{size}b")) for size in (8, 16, 32)]


def rates(seconds, compilation=0.0, ended=""):
    """As if the runs of n = 16 had taken so long each, and the first had compiled before."""
    rows = [Row((), cell.size, cell.seeds, cell.runs) for cell in CELLS]
    entry = store.Entry(
        "a.nc", CELLS[1].runs, 16, (0, 1), ("horizon",) * 2, (0.0,) * 2, {}, (ended,) * 2, 1,
        (seconds + compilation, seconds), (compilation, 0.0),
    )  # fmt: skip
    return store.Rates(rows, store.latest([entry]) if seconds else {})


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


def lines(capsys, clock, before, after, steps, shown=True):
    """What is said while cells finish at these times."""
    with Progress(CELLS, before, shown=shown, learn=lambda: after) as bar:
        for cell, now in zip(CELLS, steps, strict=True):
            clock.now = now
            bar.finish(cell)
    return capsys.readouterr().out.splitlines()


def test_each_line_says_the_time_left(capsys, clock):
    """Runs grow like n: 10, 20 and 40 s of work; after 20 s for the first, 120 s are left."""
    said = lines(capsys, clock, rates(0.0), rates(10.0), [20.0, 60.0, 140.0])
    assert len(said) == 3
    assert "1 of 3 cells, about 2 min left" in said[0]
    assert f"2 of 3 cells, about {store.duration(80.0)} left" in said[1]
    assert said[2].endswith("3 of 3 cells")


def test_a_compilation_is_not_charged_to_every_run(capsys, clock):
    """1000 s to compile each of three shapes, and 10, 20, 40 s: a third of the way."""
    said = lines(capsys, clock, rates(0.0), rates(10.0, 1000.0), [1010.0, 2030.0, 3070.0])
    assert f"about {store.duration(2060.0)} left" in said[0]
    assert f"about {store.duration(1040.0)} left" in said[1]


def test_what_was_believed_before_is_corrected(capsys, clock):
    """Another machine was ten times as fast: the first cell tells."""
    said = lines(capsys, clock, rates(1.0), rates(1.0), [20.0, 60.0, 140.0])
    assert f"about {store.duration(120.0)} left" in said[0]


def test_the_start_of_workers_is_not_charged_to_the_cells(capsys, clock):
    """The first run began 100 s after the master: 10 s of work then, and 60 s are left."""
    begun = datetime.datetime.now(datetime.UTC)
    ended = (begun + datetime.timedelta(seconds=110)).isoformat()
    said = lines(capsys, clock, rates(0.0), rates(10.0, ended=ended), [110.0, 130.0, 170.0])
    left = re.search("about (.*) left", said[0]).group(1)
    assert left == store.duration(60.0)


def test_nothing_is_made_up_or_said_unasked(capsys, clock):
    said = lines(capsys, clock, rates(0.0), rates(0.0), [20.0, 60.0, 140.0])
    assert not any(re.search("left", line) for line in said)
    assert lines(capsys, clock, rates(1.0), rates(1.0), [1.0, 2.0, 3.0], shown=False) == []


def test_workers_get_a_cell_of_each_shape_first():
    """Else the first two of them would compile the same one."""
    one, other = (("a", 1),), (("a", 2),)
    runs = itertools.product((one, other), (8, 16), (0, 1))
    cells = [Cell(v, n, (s,), (f"{v}{n}{s}",)) for v, n, s in runs]
    found = in_order(cells, lambda cell: cell.size * len(cell.variant))
    firsts = [(one, 16), (other, 16), (one, 8), (other, 8)]
    assert [(cell.variant, cell.size) for cell in found[:4]] == firsts
    assert [c.size for c in found[4:]] == [16, 16, 8, 8]
    assert sorted(c.name for c in found) == sorted(c.name for c in cells)


def test_a_notebook_has_a_bar_though_its_streams_are_no_terminals(capsys, clock, monkeypatch):
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    with Progress(CELLS, rates(10.0), shown=True, learn=lambda: rates(10.0)) as shown:
        for cell in CELLS:
            shown.finish(cell)
    said = capsys.readouterr()
    assert "100%" in said.err
    assert said.out == ""


def test_a_notebook_is_known_by_its_kernel(monkeypatch):
    kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
    assert not bars.in_notebook()
    there = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", there)
    assert bars.in_notebook()
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert not bars.in_notebook()
