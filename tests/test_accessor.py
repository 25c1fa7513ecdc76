"""Datasets of flows show what was reached, beside what xarray shows of them."""

import tomllib
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray
from made_up_results import ASKED, ended, made_up

from flowlift import studies
from flowlift.accessor import Overview
from flowlift.showing import COLUMNS, LINES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def study():
    return studies.structure_study(tomllib.loads(ASKED))


def lines_of(data):
    assert isinstance(data.flowlift, Overview)
    lines = repr(data.flowlift).split("\n")
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    ElementTree.fromstring(data.flowlift._repr_html_())
    return lines


def test_results_show_where_flows_of_each_size_ended(study):
    results = made_up(study, [[0.01, 0.3, 0.02], [0.01, 0.02, 0.03]])
    at = [[np.nan, 2.0, np.nan], [np.nan] * 3]
    results = ended(results, at, np.where(np.isfinite(at), 0.5, np.nan), "step limit")
    lines = lines_of(results)
    assert lines[0] == "results of small: 6 of 6 runs"
    assert any(
        "L = 0.02 (0.01 to 0.5) at t = 5 (2 to 5); 2 horizon, 1 step limit" in s for s in lines
    )
    assert any("n = 8" in s and "L = 0.02 (0.01 to 0.03) at t = 5; 3 horizon" in s for s in lines)
    # What is computed from results is a dataset like any other.
    assert type(results.isel(size=0)) is xarray.Dataset
    assert "4 of 4 runs" in lines_of(results.isel(seed=[0, 2]))[0]


def test_curves_are_medians_and_a_flow_that_ended_keeps_its_last_loss(study):
    results = made_up(study, [[0.25, 0.25, 0.25], [0.04, 0.04, 0.04]])
    early = [[1.0] * 3, [np.nan] * 3]
    results = ended(results, early, np.where(np.isfinite(early), 0.5, np.nan), "step limit")
    drawing = ElementTree.fromstring(results.flowlift._repr_html_()).find(f".//{SVG}svg")
    first, second = drawing.findall(f"{SVG}polyline")
    assert [line.find(f"{SVG}title").text for line in (first, second)] == ["n = 4", "n = 8"]
    places = [
        [float(p.split(",")[1]) for p in one.get("points").split()] for one in (first, second)
    ]
    # From 1 at the top to 0.04 at the bottom, by the logarithm: 0.5 stands where it does.
    top, bottom = places[1][0], places[1][-1]
    height = top + (bottom - top) * np.log(0.5) / np.log(0.04)
    np.testing.assert_allclose(places[0][-2:], height, atol=0.06)


def test_further_axes_are_not_averaged_over_and_missing_runs_are_said(study):
    axes = [("task.samples", [10, 20])]
    results = made_up(study, [[[0.1, 0.1]] * 2, [[0.3, 0.3]] * 2], axes)
    gone = results.end_time.where(results["task.samples"] == 10)
    lines = lines_of(
        results.assign(end_time=gone).assign_attrs(remarks="4 of the 8 runs are gone.")
    )
    assert lines[0] == "results of small: 4 of 8 runs"
    assert any("task.samples = 10, n = 4" in s and "L = 0.1" in s for s in lines)
    assert any("task.samples = 20, n = 8" in s and "not run" in s for s in lines)
    assert any(s.startswith("  remark") and "4 of the 8 runs are gone." in s for s in lines)


@pytest.mark.parametrize("sizes", [1, 40])
def test_however_many_sizes_there_are_the_lines_are_few(study, sizes):
    results = made_up(study, np.full((2, 2), 0.1)).isel(size=np.zeros(sizes, int))
    results = results.assign_coords(size=np.arange(sizes))
    lines = lines_of(results)
    assert lines[-1].startswith("  n = 0" if sizes == 1 else "  ... and 31 more")


def test_what_holds_no_flows_or_is_on_disk_names_its_variables(study):
    results = made_up(study, [[0.1, 0.2], [0.3, 0.4]])
    assert any("0.1" in s and "final_loss" in s for s in lines_of(results[["final_loss"]]))
    lazy = results.chunk()
    lines = lines_of(lazy)
    assert lines[0] == "results of small, on disk"
    assert any("('size', 'seed', 'time')" in s for s in lines)
    assert lines_of(xarray.Dataset())[0] == "dataset"
