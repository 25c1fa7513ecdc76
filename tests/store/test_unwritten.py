"""A kill takes what was finished in the last two seconds at most, and no file with it."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_text import TEXT

from flowlift import studies
from flowlift.flow import Outcome
from flowlift.flow.checkpoints import partial
from flowlift.store import cells as files
from flowlift.sweep import cell as cell_module
from flowlift.sweep import work
from flowlift.sweep.ended import with_times

BOUND = 2.0


def keeper_of(study, folder):
    (cell,) = studies.cells(study)
    return cell, work._Keeper(study, cell, folder, work.Manner(), None)


def record(study):
    """A run without a flow."""
    nothing = partial(Path("nowhere"), Outcome.HORIZON)
    return with_times(cell_module.describe(study, {}, nothing, {}), "", (0.0, 0.0))


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(TEXT)
    return studies.read_study(file, ["lift.sizes=[4]", "seeds=40", "chunk=40"])


@pytest.mark.parametrize("took", [0.3, 1.9, 30.0])
def test_unwritten_runs_took_two_seconds_at_most(study, tmp_path, monkeypatch, took):
    clock = [0.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: clock[0])
    cell, keeper = keeper_of(study, tmp_path)
    writes, original = [], work.write_cell
    monkeypatch.setattr(work, "write_cell", lambda *a: (writes.append(1), original(*a)))
    for done, (seed, run) in enumerate(zip(cell.seeds[:8], cell.runs[:8], strict=True), 1):
        clock[0] += took
        keeper.add(seed, run, record(study))
        data = files.read_cell(cell, tmp_path)
        stored = 0 if data is None else data.sizes["seed"]
        assert (done - stored) * took < BOUND
    # And no more often than that asks for.
    assert len(writes) <= max(1, clock[0] / BOUND)


WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
import jax
jax.config.update("jax_enable_x64", True)
import test_unwritten as t
from flowlift import studies
study = studies.read_study(Path(sys.argv[1]), ["lift.sizes=[4]", "seeds=1000", "chunk=1000"])
cell, keeper = t.keeper_of(study, Path(sys.argv[2]))
for seed, run in zip(cell.seeds, cell.runs):
    time.sleep(0.05)
    keeper.add(seed, run, t.record(study))
    print(time.time(), run, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.5, 3.7])
def test_kill_9_of_a_writer_loses_two_seconds_at_most(study, tmp_path, after):
    """Slow: it waits for seconds of finished work."""
    here = Path(__file__).parent
    script = WRITER.format(tests=str(here.parent), here=str(here))
    command = [sys.executable, "-c", script, str(tmp_path / "study.toml"), str(tmp_path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    first = writer.stdout.readline()
    while not list((tmp_path / "cells").glob("*.nc")):
        time.sleep(0.05)
    time.sleep(after)
    writer.kill()
    lines = [first, *writer.stdout]
    finished = [(float(at), run) for at, run in (line.split() for line in lines if "\n" in line)]
    (cell,) = studies.cells(dataclasses.replace(study, seeds=1000, chunk=1000))
    stored = set(files.read_cell(cell, tmp_path)["run"].values.ravel())
    lost = [at for at, run in finished if run not in stored]
    assert len(finished) > 10
    assert stored
    # From the end of the first that is lost to that of the last: one run's time more is its own.
    assert not lost or lost[-1] - lost[0] < BOUND
