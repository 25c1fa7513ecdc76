"""Rates in study files: powers of the size, axes of their own, identities, refusals."""

import numpy as np
import pytest
import xarray
from study_text import TINY

import flowlift
from flowlift import compare, studies, sweep
from flowlift.studies.grid import rows
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study

TABLE = '[rates]\n"x->h1" = "2/n"\n"*" = 0.5\n'


def read(tmp_path, text, *overrides):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


@pytest.mark.slow  # a study of two sizes, and its flows by hand
def test_a_study_flows_at_the_rates_of_its_size(tmp_path):
    study = read(tmp_path, TINY + TABLE, "lift.sizes=[4, 8]")
    found = sweep.run_study(study, tmp_path / "results")
    for size in (4, 8):
        lift, task = model_maker(study)(size, 0), study_task(study)
        by_hand = {"x->h1": 2 / size, "*": 0.5}
        flow = flowlift.solve(lift, task, 1.0, solver="tsit5", rates=by_hand)
        there = found.sel(size=size, seed=0)
        np.testing.assert_allclose(there.final_loss, flow.loss[-1], rtol=1e-12)
        assert int(there.gradients) == flow.stats.gradients


def test_rates_enter_the_identity_of_a_run_and_none_leave_it_as_it_was(tmp_path):
    names = lambda study: [run for row in rows(study) for run in row.runs]
    plain, rated = read(tmp_path, TINY), read(tmp_path, TINY + TABLE)
    assert names(plain) == names(read(tmp_path, TINY + "[rates]\n"))
    assert names(plain) != names(rated)
    again = read(tmp_path, studies.to_toml(rated))
    assert again.rates == {"x->h1": "2/n", "*": 0.5}
    assert names(again) == names(rated)


def test_rates_are_an_axis_of_a_grid(tmp_path):
    text = TINY + '[vary]\n"rates.x->h1" = ["1/n", 1.0]\n'
    found = sweep.run_study(read(tmp_path, text), tmp_path / "results")
    assert found["x->h1"].values.tolist() == ["1/n", "1.0"]
    losses = found.final_loss.squeeze().values
    assert losses[0] != losses[1]


def test_solvers_are_compared_on_a_study_with_rates(tmp_path):
    study = read(tmp_path, TINY + TABLE)
    options = {"reference": "bdf", "reference_rtol": 1e-9, "repeats": 0}
    solvers = ["tsit5", "scipy:Radau"]
    found = compare.compare_on_study(study, solvers=solvers, rtols=[1e-6], **options)
    assert isinstance(found, xarray.Dataset)
    assert float(found.error.max()) < 1e-4
    lift, task = model_maker(study)(4, 0), study_task(study)
    flow = flowlift.solve(lift, task, 1.0, rates={"x->h1": 0.5, "*": 0.5})
    np.testing.assert_allclose(found.loss.isel(time=-1), flow.loss[-1], rtol=1e-4)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('"x->h1" = -1.0\n', "finite numbers of at least 0"),
        ('"x->h1" = "m"\n', "powers of the size n"),
        ('"x->h9" = 1.0\n', "'x->h9' names none of"),
        ('"*" = 0\n', "leave a leaf that flows"),
        ('"x->h1" = true\n', "must be a number or a string"),
    ],
)
def test_rates_that_are_none_are_refused_before_any_flow(tmp_path, table, words):
    with pytest.raises(ValueError, match=words):
        check_study(read(tmp_path, f"{TINY}[rates]\n{table}"))


def test_a_rate_of_a_frozen_leaf_is_refused(tmp_path):
    text = TINY.replace('name = "tiny"', 'name = "tiny"\nfrozen = ["x->h1"]')
    with pytest.raises(ValueError, match="leaves of the model that flow"):
        check_study(read(tmp_path, text + TABLE))


def test_a_parametrisation_gives_a_study_laws_and_rates_together(tmp_path):
    text = TINY.replace("[lift]\n", '[lift]\nparametrisation = "mup"\n')
    study = read(tmp_path, text)
    check_study(study)
    lift = model_maker(study)(4, 0)
    rates = study.rates_of(lift, 4)
    assert rates == flowlift.lift.parametrised_rates(lift, "mup")
    by_hand = flowlift.sample(
        lift.module, copies=4, edges=flowlift.Complete(), seed=0, parametrisation="mup"
    )
    for name, w in by_hand.weights.items():
        np.testing.assert_array_equal(lift.weights[name], w)
    with pytest.raises(ValueError, match="left out with the parametrisation"):
        read(tmp_path, text + TABLE)
    with pytest.raises(ValueError, match="left out with a parametrisation"):
        read(tmp_path, text, 'lift.weights={ kind = "zero" }')
    with pytest.raises(ValueError, match="one of standard, ntk"):
        check_study(read(tmp_path, text, "lift.parametrisation=abc"))
