"""The table [flow.dynamics] of study files: as axes, in identities, refused before any flow."""

import numpy as np
import pytest
from study_text import TINY

import flowlift
from flowlift import studies, sweep
from flowlift.flow import CentralFlow, HeavyBall
from flowlift.studies.grid import rows
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study

TABLE = '[flow.dynamics]\nkind = "heavy-ball"\nfriction = 2.0\n'


def read(tmp_path, text, *overrides):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


def test_a_study_flows_by_its_dynamics_and_keeps_its_records(tmp_path):
    study = read(tmp_path, TINY + TABLE)
    found = sweep.run_study(study, tmp_path / "results").sel(seed=0).squeeze()
    lift, task = model_maker(study)(4, 0), study_task(study)
    flow = flowlift.solve(lift, task, 1.0, solver="tsit5", dynamics=HeavyBall(2.0))
    np.testing.assert_allclose(found.final_loss, flow.loss[-1], rtol=1e-12)
    # What it records beyond every flow's records is kept too.
    kinetic = found.kinetic.dropna("time").values
    np.testing.assert_allclose(kinetic, flow.observations["kinetic"], rtol=1e-9, atol=1e-15)


def test_a_dynamics_enters_the_identity_of_a_run_and_none_leaves_it_as_it_was(tmp_path):
    names = lambda study: [run for row in rows(study) for run in row.runs]
    plain, moving = read(tmp_path, TINY), read(tmp_path, TINY + TABLE)
    assert names(plain) != names(moving)
    assert "dynamics" not in studies.to_toml(plain)
    again = read(tmp_path, studies.to_toml(moving))
    assert again.flow.dynamics == HeavyBall(2.0)
    assert names(again) == names(moving)


def test_a_friction_is_an_axis_of_a_grid(tmp_path):
    text = TINY + TABLE + '[vary]\n"flow.dynamics.friction" = [0.5, 2.0]\n'
    found = sweep.run_study(read(tmp_path, text), tmp_path / "results")
    losses = found.final_loss.squeeze().values
    assert losses.shape[0] == 2
    assert (losses[0] != losses[1]).any()


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (['flow.dynamics.kind="log-loss"'], "has SquaredLoss"),
        (['flow.solver="rkc2"', 'flow.dynamics.kind="heavy-ball"', "flow.dynamics.friction=1.0"],
         "for HeavyBall"),
        (['flow.dynamics.kind="heavy-ball"', "flow.dynamics.friction=-1.0"], "at least 0"),
        (['flow.dynamics.kind="heavy-ball"', "flow.dynamics.friction=1.0",
          "flow.critical_gradient_norm=1e-6", "flow.critical_curvature=1e-6"],
         "through a critical"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_before_any_flow(tmp_path, overrides, match):
    with pytest.raises(ValueError, match=match):
        check_study(read(tmp_path, TINY, *overrides))


# Of a central flow the compilation alone takes seconds.
@pytest.mark.slow
def test_a_step_size_is_an_axis_of_a_study_of_central_flows(tmp_path):
    """Below the edge, where nothing oscillates."""
    table = '[flow.dynamics]\nkind = "central-flow"\nstep_size = 0.1\neigenvalues = 1\n'
    text = TINY + table + '[vary]\n"flow.dynamics.step_size" = [0.01, 0.02]\n'
    study = read(tmp_path, text)
    assert study.flow.dynamics == CentralFlow(0.1, 1)
    found = sweep.run_study(study, tmp_path / "results")
    variances = found.covariance.squeeze().values
    assert variances.shape[0] == 2
    assert np.nanmax(variances) == 0
    shown = found.eigenvalues.squeeze().values
    assert np.nanmax(shown) < 2 / 0.02
    with pytest.raises(ValueError, match="`step_size` must be a positive finite number"):
        read(tmp_path, TINY + table, "flow.dynamics.step_size=0.0")
