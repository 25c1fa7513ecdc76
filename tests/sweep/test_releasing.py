"""Workers that meet many shapes drop programs, and compute the same afterwards."""

import itertools

import pytest
import xarray
from study_text import TINY

from flowlift import studies
from flowlift.sweep import releasing, run_cell


@pytest.mark.slow  # It compiles all programs of a cell twice.
def test_programs_are_dropped_where_mappings_run_out_and_flows_stay_the_same(tmp_path, monkeypatch):
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    study = studies.read_study(file)
    cell = next(studies.cells(study))
    before, mappings = run_cell(study, cell), releasing._MAPPINGS.read_bytes().count(b"\n")
    monkeypatch.setattr(releasing, "_CELLS", itertools.count(1))
    monkeypatch.setattr(releasing, "_BETWEEN", 2)
    allowed = tmp_path / "allowed"
    monkeypatch.setattr(releasing, "_ALLOWED", allowed)
    allowed.write_text(f"{4 * mappings}\n")
    assert [releasing.release_programs() for _ in range(4)] == [False] * 4
    allowed.write_text(f"{mappings}\n")
    assert [releasing.release_programs() for _ in range(2)] == [False, True]
    after = run_cell(study, cell)
    for name in ("loss", "final_loss", "gradients"):
        xarray.testing.assert_identical(after[name], before[name])


@pytest.mark.parametrize("place", ["_MAPPINGS", "_ALLOWED"])
def test_systems_that_count_no_mappings_drop_nothing(tmp_path, monkeypatch, place):
    monkeypatch.setattr(releasing, place, tmp_path / "none")
    monkeypatch.setattr(releasing, "_BETWEEN", 1)
    assert not releasing.release_programs()
