"""`[flow] engine` of study files: what a study's flows are driven by."""

import numpy as np
import pytest
from study_text import TINY

import flowlift
from flowlift import studies, sweep
from flowlift.studies.grid import rows
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study

GRAPH = 'flow.engine="graph"'


def read(tmp_path, text, *overrides):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


@pytest.mark.slow  # A solver in the graph, compiled.
def test_flows_of_a_study_run_in_the_graph(tmp_path):
    study = read(tmp_path, TINY, GRAPH)
    found = sweep.run_study(study, tmp_path / "results").sel(seed=0).squeeze()
    lift, task = model_maker(study)(4, 0), study_task(study)
    flow = flowlift.solve(lift, task, 1.0, solver="tsit5", engine="graph")
    assert flow.engine == "graph"
    np.testing.assert_array_equal(found.final_loss, flow.loss[-1])


def test_an_engine_enters_the_identity_of_a_run_and_none_leaves_it_as_it_was(tmp_path):
    names = lambda study: [run for row in rows(study) for run in row.runs]
    plain, compiled = read(tmp_path, TINY), read(tmp_path, TINY, GRAPH)
    assert names(plain) != names(compiled)
    assert "engine" not in studies.to_toml(plain)
    assert read(tmp_path, studies.to_toml(compiled)).flow.engine == "graph"


def test_what_a_study_cannot_have_is_refused_before_any_flow(tmp_path):
    with pytest.raises(ValueError, match="`engine` must be 'graph'"):
        read(tmp_path, TINY, 'flow.engine="host"')
    momentum = ['flow.dynamics.kind="heavy-ball"', "flow.dynamics.friction=1.0"]
    check_study(read(tmp_path, TINY, GRAPH, 'flow.solver="bdf"', *momentum))
