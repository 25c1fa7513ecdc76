"""Ctrl-C: what was finished is kept, and the same command goes on from there."""

import dataclasses
import tomllib

import pytest
from study_text import TEXT

from flowlift.store.cells import index
from flowlift.store.index import Watch
from flowlift.studies.grid import cells
from flowlift.studies.toml import structure_study
from flowlift.sweep import work, worker


@pytest.fixture
def study():
    study = structure_study(tomllib.loads(TEXT))
    lifts = dataclasses.replace(study.lift, sizes=(4,))
    return dataclasses.replace(study, lift=lifts, seeds=3)


def test_finished_runs_of_an_interrupted_cell_are_kept(study, tmp_path):
    (cell,) = cells(study)
    seen = []

    def interrupt(seed, _):
        seen.append(seed)
        if len(seen) == 2:
            raise KeyboardInterrupt

    manner, watch = work.Manner(every=float("inf")), Watch(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        work.compute_and_store(study, cell, tmp_path, manner, watch, interrupt)
    (entry,) = index(tmp_path).values()
    assert entry.runs == cell.runs[:2]
    assert not list((tmp_path / "claims").glob("*.json"))
    work.compute_and_store(study, cell, tmp_path, manner, watch, lambda seed, _: seen.append(seed))
    assert seen == [0, 1, 2]
    (entry,) = index(tmp_path).values()
    times = zip(entry.compiling, entry.seconds, entry.whole, strict=True)
    assert all(0 <= compiling <= whole and seconds <= whole for compiling, seconds, whole in times)


def test_a_worker_that_was_told_to_end_begins_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "_TOLD_TO_END", [15])
    with pytest.raises(KeyboardInterrupt):
        worker.compute("", {}, str(tmp_path), {})
    assert not list(tmp_path.iterdir())
