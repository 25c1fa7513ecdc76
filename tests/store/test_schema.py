"""docs/store.md says what a cell really holds, and sizes count what the study says."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from study_text import TEXT

from flowlift import answers, lift, store, studies, sweep
from flowlift.answers.questions import ANSWERED

HELD_OUT = ("held_out_loss", "accuracy", "held_out_accuracy")
DOCS = Path(__file__).parents[2] / "docs" / "store.md"


def documented():
    table = DOCS.read_text().split("<!-- schema: begin -->")[1].split("<!-- schema: end -->")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.split("\n")]
    return {row[0]: row[1:] for row in rows[3:] if len(row) == 5}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "small.toml"
    file.write_text(TEXT)
    return studies.read_study(file, ["lift.sizes=[4]", "flow.max_steps=3"])


def test_the_schema_is_what_a_cell_holds(study, tmp_path):
    sweep.run_study(study, tmp_path, progress=False)
    (file,) = (tmp_path / "cells").glob("*.nc")
    data = store.load(tmp_path)
    raw = store.cells.read_file(file)
    described = documented()
    # Rows of several names are of what is there where a task has held-out data or labels.
    further = {name for row in described for name in row.split("`, `") if "`" in row}
    assert further == {f"{end}{name}" for name in HELD_OUT for end in ("", "final_")}
    described = {name: row for name, row in described.items() if "`" not in name}
    assert set(described) == {str(name) for name in raw.variables}
    for name, (dims, units, meaning, missing) in described.items():
        assert {d.strip() for d in dims.split(",")} == set(raw[name].dims), name
        assert units == raw[name].attrs["units"], name
        assert meaning
        assert missing
        assert raw[name].attrs["long_name"]
    assert raw.attrs["schema"] == studies.grid.SCHEMA
    assert re.search(rf"^## Schema {studies.grid.SCHEMA}$", DOCS.read_text(), re.MULTILINE)
    # Missing values: after the end of a flow, and of a run that did not fail.
    assert np.isnan(data.loss.values[..., -1]).all()
    assert set(data.result.values.ravel()) == {"step limit"}
    assert all("limit of attempted steps" in text for text in data.reason.values.ravel())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", str(data.ended.values[0, 0]))


def test_answers_read_no_variables_but_those_they_name(study, tmp_path):
    certified = dataclasses.replace(
        study.flow, max_steps=10_000, critical_gradient_norm=10.0, critical_curvature=100.0
    )
    sweep.run_study(dataclasses.replace(study, flow=certified), tmp_path, progress=False)
    few, whole = store.load(tmp_path, variables=ANSWERED), store.load(tmp_path)
    # There are no held-out data here.
    assert set(few.data_vars) == {name for name in ANSWERED if "held_out" not in name}
    asked = studies.Question((0.5, 0.1), (2.0,))
    for less, more in zip(answers.answers(few, asked), answers.answers(whole, asked), strict=True):
        pandas.testing.assert_frame_equal(less.table, more.table)
        assert str(less.numbers) == str(more.numbers)


LAWS = [lift.FixedInDegree(3), lift.BernoulliInDegree(4.0), lift.Complete()]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("counted", ["edges", "parameters"])
def test_sizes_can_count_edges_or_parameters(study, law, counted):
    plan = dataclasses.replace(study.lift, edges=law, weights_over={}, size_counts=counted)
    module = study.module.build()
    for size in (60, 500, 3000):
        copies = plan.copies(module, size)
        expected = lift.expected_counts(module, copies=copies, edges=law)
        draws = [lift.sample(module, copies=copies, edges=law, seed=s) for s in range(8)]
        found = [{"edges": d.n_edges, "parameters": d.n_parameters}[counted] for d in draws]
        spread = 0 if not isinstance(law, lift.BernoulliInDegree) else 6 * np.sqrt(size / 8)
        assert abs(np.mean(found) - expected[counted]) <= spread
        # No other number of copies comes nearer.
        n = copies["h1"]
        for other in (n - 1, n + 1):
            if other >= 1:
                others = {"h1": other, "h2": max(1, round(0.5 * other))}
                count = lift.expected_counts(module, copies=others, edges=law)[counted]
                assert abs(expected[counted] - size) <= abs(count - size)
    with pytest.raises(ValueError, match=f"numbers of {counted} that the lift can have, but 1 is"):
        plan.copies(module, 1)


def test_what_a_size_counts_is_part_of_a_run_unless_it_is_copies(study):
    name = studies.run_identity(study, 64, 0)
    counted = dataclasses.replace(study.lift, size_counts="edges")
    assert studies.run_identity(dataclasses.replace(study, lift=counted), 64, 0) != name
    with pytest.raises(ValueError, match="`size_counts` must be one of copies, edges, parameters"):
        dataclasses.replace(study.lift, size_counts="neurons")


@pytest.mark.parametrize(
    ("seeds", "solver", "engine", "pays"),
    [
        (200, "auto", None, True),
        (199, "auto", None, False),
        (200, "auto", "graph", False),
        (200, "bdf", None, True),
        (200, "tsit5", None, False),
    ],
)
def test_many_small_flows_that_may_be_stiff_are_told_of_the_graph(
    study, seeds, solver, engine, pays
):
    from flowlift import store, studies, sweep

    flow = dataclasses.replace(study.flow, solver=solver, engine=engine)
    lift = dataclasses.replace(study.lift, sizes=(8,))
    many = dataclasses.replace(study, flow=flow, lift=lift, seeds=seeds)
    rates = store.Rates(list(studies.grid.rows(many)), {})
    found = sweep.forecast(many, list(studies.cells(many)), rates)
    assert found.graph_pays == pays == ('engine = "graph"' in str(found))


def test_a_forecast_says_what_is_known(study):
    from flowlift import store, studies, sweep

    rows = list(studies.grid.rows(dataclasses.replace(study, seeds=20)))
    missing = list(studies.cells(dataclasses.replace(study, seeds=20)))
    nothing = store.Rates(rows, {})
    found = sweep.forecast(dataclasses.replace(study, seeds=20), missing, nothing)
    assert (found.runs, found.cells, found.compilations) == (20, 5, 1)
    assert found.seconds is None
    assert found.seeds == (20, 20)
    assert "20 seeds give a 95% interval of ±0.23 around" in str(found)
    sizes = dataclasses.replace(study.lift, sizes=(64, 128))
    fewer = dataclasses.replace(study, seeds=20, seeds_at_most={"128": 5}, lift=sizes)
    few = sweep.forecast(fewer, list(studies.cells(fewer)), nothing)
    assert (few.runs, few.seeds) == (25, (5, 20))
    widths = f"±0.23, 5 of ±{answers.half_width(5):.2f}, around a probability of 1/2."
    assert str(few).endswith(widths)
    assert "20 runs in 5 cells, 1 compilations" in str(found)
    assert "not known before the first cell" in str(found)
    # A thousandfold lift takes more memory than the interpreter; a fourfold one twice less so.
    large = [dataclasses.replace(missing[0], size=n) for n in (4000, 16000)]
    bytes_ = [sweep.forecast(study, [cell], nothing).bytes for cell in large]
    base = sweep.forecast(study, missing, nothing).bytes
    assert 3 < (bytes_[1] - base) / (bytes_[0] - base) < 5
