"""Identities of runs, as stored by earlier versions: study files keep their meaning."""

import json
from pathlib import Path

import pytest
from study_text import TEXT

from flowlift import studies
from flowlift.studies.grid import rows

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "tests" / "reference" / "identities.json").read_text())


@pytest.mark.parametrize("name", STORED)
def test_runs_have_the_identities_that_earlier_versions_stored(name, tmp_path):
    file, quick = name.removesuffix(" quick"), name.endswith(" quick")
    if file == "tests/study_text":
        path = tmp_path / "small.toml"
        path.write_text(TEXT)
    else:
        path = ROOT / file
    there = {
        (tuple(map(tuple, row.variant)), row.size, seed): run
        for row in rows(studies.read_study(path, quick=quick))
        for seed, run in zip(row.seeds, row.runs, strict=True)
    }
    assert len(STORED[name]) > 0
    for variant, size, first, first_run, last, last_run in STORED[name]:
        axes = tuple(map(tuple, variant))
        assert there[axes, size, first] == first_run
        assert there[axes, size, last] == last_run
