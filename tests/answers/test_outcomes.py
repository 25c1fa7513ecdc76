"""Converged, stuck or undecided: decided from what is stored, whatever the age of the store."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray

from flowlift import answers, store, studies
from flowlift.studies import grid

NAN = float("nan")
ROOT = Path(__file__).parents[2]


def certified(loss, time, gradient_norm, least, bounds=(1e-9, 1e-6)):
    """Runs of one size, that ended with such losses at such times."""
    dims = ("size", "seed")
    row = lambda values: (dims, np.asarray([values], float))
    losses = np.stack([np.full(len(loss), 1.0), np.where(np.asarray(time) > 10, 0.5, NAN)], -1)
    return xarray.Dataset(
        {
            "loss": ((*dims, "time"), losses[None]),
            "final_loss": row(loss),
            "end_time": row(time),
            "result": (dims, [["horizon" if t == max(time) else "gradient below" for t in time]]),
            "final_gradient_norm": row(gradient_norm),
            "least_eigenvalue": row(least),
            "gradient_norm_bound": row([bounds[0]] * len(loss)),
            "curvature_bound": row([bounds[1]] * len(loss)),
        },
        coords={"size": [8], "seed": np.arange(len(loss)), "time": [0.0, 10.0]},
    )


# A global minimum, a spurious one, a saddle, a slope at the horizon, a flat spurious minimum.
LOSSES = [1e-17, 0.02, 0.02, 0.02, 0.03]
TIMES = [500.0, 700.0, 900.0, 1e6, 800.0]
RUNS = certified(LOSSES, TIMES, [5e-10, 9e-10, 9e-10, 2e-9, 1e-9], [0.1, 0.1, -1e-3, NAN, -9e-7])


@pytest.mark.parametrize(
    ("loss", "time", "expected"),
    [
        (1e-3, None, "converged stuck undecided undecided stuck"),
        (1e-3, 1e7, "converged stuck not-observed not-observed stuck"),
        (1e-3, 750.0, "converged stuck not-yet not-yet not-yet"),
        # The first met it between the save time 10 and its end, 500.
        (1e-3, 400.0, "not-observed not-yet not-yet not-yet not-yet"),
        (0.025, None, "converged converged converged converged stuck"),
        (0.5, 20.0, "converged converged converged converged converged"),
        (1e-18, None, "stuck stuck undecided undecided stuck"),
    ],
)
def test_outcomes_at_any_loss_and_time(loss, time, expected):
    words = answers.outcomes(RUNS, loss, time)
    assert words.name == "outcome"
    assert words.dims == ("size", "seed")
    assert words.values[0].tolist() == [word.replace("-", " ") for word in expected.split()]


def test_the_bounds_are_those_stored_with_each_run():
    strict = RUNS.assign(gradient_norm_bound=RUNS.gradient_norm_bound / 10)
    assert "stuck" not in answers.outcomes(strict, 1e-3).values
    loose = RUNS.assign(curvature_bound=RUNS.curvature_bound * 1e4)
    assert answers.outcomes(loose, 1e-3).values[0, 2] == "stuck"


def test_runs_that_are_missing_have_no_outcome():
    end = RUNS.end_time.copy()
    end[0, 1] = NAN
    assert answers.outcomes(RUNS.assign(end_time=end), 1e-3).values[0, 1] == ""


def test_in_stores_without_certificates_what_has_not_converged_is_undecided():
    names = ["least_eigenvalue", "gradient_norm_bound", "curvature_bound"]
    words = answers.outcomes(RUNS.drop_vars(names), 1e-3)
    assert words.values[0].tolist() == ["converged"] + ["undecided"] * 4


def test_old_cells_and_new_ones_are_read_together(tmp_path):
    study = studies.structure_study(
        {
            "name": "old",
            "seeds": 2,
            "chunk": 1,
            "module": {"kind": "mlp", "inputs": 1},
            "lift": {"sizes": [8], "edges": {"kind": "complete"}},
            "task": {"kind": "periodic", "harmonics": {"1": 1.0}},
            "flow": {"horizon": 10.0, "critical_gradient_norm": 1e-9, "critical_curvature": 1e-6},
        }
    )
    store.cells.write_study(study, tmp_path)
    for cell, old in zip(studies.cells(study), (True, False), strict=True):
        data = RUNS.isel(seed=[1]).assign_coords(seed=list(cell.seeds))
        data["run"] = ("seed", list(cell.runs))
        data["seconds"] = ("seed", [1.0])
        data.attrs["schema"] = grid.SCHEMA
        words = {"result": "horizon", "reason": "", "ended": "", "host": "", "versions": ""}
        data = data.assign({name: ("seed", [word]) for name, word in words.items()})
        names = ["least_eigenvalue", "gradient_norm_bound", "curvature_bound"]
        store.cells.write_cell(data.drop_vars(names) if old else data, cell, tmp_path)
    words = answers.outcomes(store.load(tmp_path), 1e-3)
    assert words.values[0].tolist() == ["undecided", "stuck"]


def test_runs_that_ask_for_no_certificate_keep_their_identity():
    """Identities from before there were certificates."""
    study = studies.read_study(ROOT / "studies" / "01_digits" / "study.toml")
    known = {(16, 0): "33787157dbcde4c0", (128, 3): "060de1e3ff7f5195"}
    assert {at: studies.run_identity(study, *at) for at in known} == known
    bounds = {"critical_gradient_norm": 1e-9, "critical_curvature": 1e-6}
    asking = dataclasses.replace(study, flow=dataclasses.replace(study.flow, **bounds))
    assert studies.run_identity(asking, 16, 0) != known[16, 0]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"critical_gradient_norm": 1e-9}, "`critical_curvature` must be given with"),
        ({"critical_curvature": 1e-9}, "`critical_gradient_norm` must be given with"),
        (
            {"critical_curvature": -1.0, "critical_gradient_norm": 1e-9},
            "`critical_curvature` must be positive, but is -1.0",
        ),
    ],
)
def test_half_a_certificate_is_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        studies.FlowPlan(1.0, **bounds)
