"""Sequential designs read cells while others are computed: the same numbers, the same runs."""

import dataclasses

import made_up_store
import pytest
import xarray
from study_text import TINY

from flowlift import answers, studies, sweep
from flowlift.answers.probability import counted
from flowlift.answers.questions import ANSWERED
from flowlift.store import cells as store_cells
from flowlift.store import folding
from flowlift.store.ahead import Ahead
from flowlift.store.gathering import load_cells
from flowlift.store.index import Watch
from flowlift.studies import grid
from flowlift.studies.toml import variants
from flowlift.sweep import sequential


def written(folder):
    path = folder / "tiny.toml"
    path.write_text(TINY + "\n[question]\nlosses = [0.3]\n")
    return dataclasses.replace(studies.read_study(path), seeds=4, chunk=2)


def test_a_design_reads_cells_ahead_as_a_look_would(tmp_path):
    """Cells that were read when they were finished, some of which were replaced or folded since."""
    study = dataclasses.replace(written(tmp_path), vary={"flow.rtol": (1e-6, 1e-8)})
    cells = made_up_store.made_up_store(study, tmp_path / "r")
    ahead = Ahead(tmp_path / "r", ANSWERED)
    for cell in cells[1:]:
        ahead.take(cell)
    assert len(ahead._read) == len(cells) - 1
    failed = made_up_store.made_up_cell(cells[1], result="step limit")
    store_cells.write_cell(failed, cells[1], tmp_path / "r")
    found = load_cells(
        tmp_path / "r", study, cells, variables=ANSWERED, watch=Watch(tmp_path / "r"), ahead=ahead
    )
    expected = load_cells(tmp_path / "r", study, cells)
    for name in ("loss", "final_loss", "end_time", "result", "run"):
        xarray.testing.assert_equal(found[name], expected[name])
    assert ahead.given() == {}
    folding.fold(tmp_path / "r")
    ahead.take(cells[0])
    assert ahead.given() == {}


def test_counts_are_those_of_the_table(tmp_path):
    study = written(tmp_path)
    made_up_store.made_up_store(study, tmp_path / "r")
    results = load_cells(tmp_path / "r", study, list(grid.cells(study)), variables=ANSWERED)
    for time in (None, 2.0, 9.0):
        table = answers.success_probability(results, 0.5, time)
        found = counted(results, 0.5, time)
        for name, counts in zip(("runs", "converged", "not observed"), found, strict=True):
            assert counts.values.tolist() == table[name].tolist()


def test_cells_of_a_variant_are_those_of_its_study(tmp_path):
    study = dataclasses.replace(written(tmp_path), vary={"flow.rtol": (1e-6, 1e-8)})
    for point, variant in variants(study):
        make = grid.cells_of(variant, point)
        made = [cell for n in variant.all_sizes for cell in make(n, variant.seeds_of(n))]
        assert made == [c for c in grid.cells(study) if c.variant == tuple(point.items())]


@pytest.mark.slow
def test_the_runs_are_the_same_with_any_number_of_workers_and_after_a_stop(tmp_path, monkeypatch):
    """Slow: five designs of real flows, three of them in processes that have to start."""
    study, options = written(tmp_path), {"half_width": 0.2, "budget_runs": 60, "progress": False}
    study = dataclasses.replace(study, vary={"flow.horizon": (3.0, 4.0)})
    found = [sweep.run_until(study, tmp_path / "0", **options)]
    for count in (1, 2):
        with sweep.spawned_workers(count) as workers:
            found.append(sweep.run_until(study, tmp_path / str(count), executor=workers, **options))

    class Stopped(Exception):
        pass

    takes, take = [], sequential._Looks.take

    def stopping(looks, more):
        takes.append(more)
        if len(takes) == 2:
            raise Stopped
        take(looks, more)

    with monkeypatch.context() as patch:
        patch.setattr(sequential._Looks, "take", stopping)
        with pytest.raises(Stopped):
            sweep.run_until(study, tmp_path / "stopped", **options)
    found.append(sweep.run_until(study, tmp_path / "stopped", **options))
    first, *others = found
    assert first.runs > 2 * study.seeds
    for other in others:
        assert (other.runs, other.widest) == (first.runs, first.widest)
        for name in ("run", "loss", "final_loss"):
            xarray.testing.assert_equal(other.results[name], first.results[name])
