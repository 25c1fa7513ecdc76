"""Quantities named in a study file are those of the functions, at times of their own."""

from pathlib import Path

import numpy as np
import pytest
from study_text import TEXT

import flowlift
from flowlift import diagnostics, lift, studies, sweep

DIGITS = Path(__file__).parents[2] / "studies" / "01_digits" / "study.toml"
OBSERVE = """
[observe]
per_decade = 1
first_time = 0.1
quantities.kappa = { kind = "tangent_radius", eps = 0.05 }
quantities.slope = { kind = "rayleigh" }
quantities.lazy = { kind = "lazy_distance" }
quantities.top = { kind = "kernel_top", count = 2 }
"""


def read(tmp_path, text, *overrides):
    path = tmp_path / "observed.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


def test_runs_without_observations_keep_their_identity(tmp_path):
    """As they were before studies could observe: stores made then are still complete."""
    study = studies.read_study(DIGITS)
    found = [studies.run_identity(study, n, seed) for n, seed in ((16, 0), (128, 3))]
    assert found == ["33787157dbcde4c0", "060de1e3ff7f5195"]
    plain, observed = read(tmp_path, TEXT), read(tmp_path, TEXT + OBSERVE)
    seen = {studies.run_identity(study, 4, 0) for study in (plain, observed)}
    seen.add(studies.run_identity(read(tmp_path, TEXT + OBSERVE, "observe.per_decade=2"), 4, 0))
    assert len(seen) == 3


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    study = read(folder, TEXT + OBSERVE, "lift.sizes=[4]", "flow.loss_below=0.1")
    return study, sweep.run_study(study, folder / "results", progress=False)


@pytest.mark.slow
def test_observed_quantities_are_those_of_the_functions(observed):
    study, results = observed
    times = [0.0, 0.1, 1.0, 5.0]
    assert results.observation_time.values.tolist() == times
    module, task = study.module.build(), study.task.build(precision="float64")
    weights = {"*": lift.Gaussian(1.0), "x->h1": lift.GaussianFanIn(2.0)}
    edges = lift.BernoulliInDegree(2.0)
    model = flowlift.sample(module, copies={"h1": 4, "h2": 2}, edges=edges, weights=weights, seed=1)
    stops = [flowlift.LossBelow(0.1)]
    solution = flowlift.solve(model, task, 5.0, stops=stops, snapshots=times[1:])
    models = {0.0: model, **solution.snapshots}
    run = results.sel(size=4, seed=1)
    reached = len(models)
    slopes = [float(diagnostics.rayleigh(m, task).quotient) for m in models.values()]
    np.testing.assert_allclose(run.slope[:reached], slopes, rtol=1e-9)
    assert np.isnan(run.slope[reached:]).all()
    radii = [float(diagnostics.tangent_radius(m, task, 0.05).kappa) for m in models.values()]
    np.testing.assert_allclose(run.kappa[:reached], radii, rtol=1e-9)
    linear = diagnostics.linearised_flow(model, task, max(models))
    lazy = diagnostics.lazy_distance(linear, models)
    np.testing.assert_allclose(run.lazy[:reached], lazy, rtol=1e-9, atol=1e-15)
    top = diagnostics.kernel_top(solution.snapshots[0.1], task, 2).values
    np.testing.assert_allclose(run.top.sel(observation_time=0.1), top, rtol=1e-9)


@pytest.mark.slow
def test_their_cost_is_counted_apart(observed):
    study, results = observed
    run = results.sel(size=4, seed=0)
    measured = int(np.isfinite(run.slope).sum())
    assert int(run.slope_gradients) == 2 * measured
    assert 3 * measured <= int(run.kappa_gradients) <= 200 * measured
    assert int(run.lazy_gradients) > 0
    assert float(run.observation_seconds) > 0
    for name in ("kappa", "kappa_gradients", "observation_time", "observation_seconds"):
        assert results[name].attrs["long_name"]
        assert results[name].attrs["units"]
    # The trajectory is known wherever something was observed.
    at_observations = run.loss.sel(time=run.observation_time.values)
    np.testing.assert_array_equal(np.isfinite(at_observations), np.isfinite(run.slope))
    copy = studies.structure_study(studies.toml.plain(study))
    assert copy == study


def test_the_start_alone_can_be_observed(tmp_path):
    study = read(tmp_path, TEXT + OBSERVE, "observe.per_decade=0")
    assert study.observe is not None
    assert study.observe.times(5.0).tolist() == [0.0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("observe.quantities={}", "`quantities` must name a quantity"),
        ('observe.quantities={loss={kind="rayleigh"}}', "not have a name that results use"),
        ('observe.quantities={reason={kind="rayleigh"}}', "not have a name that results use"),
        ('observe.quantities={host={kind="rayleigh"}}', "not have a name that results use"),
        ('observe.quantities={"a b"={kind="rayleigh"}}', "names of letters that results do not"),
        (
            'observe.quantities={k={kind="tangent_radius", ep=1.0}}',
            "key `observe.quantities.k.ep` is unknown; the nearest known key is "
            "`observe.quantities.k.eps`",
        ),
        ('observe.quantities={k={kind="tangent_radius"}}', "key `observe.quantities.k.eps` is mis"),
        ('observe.quantities={k={kind="raileigh"}}', "key `observe.quantities.k.kind` must be one"),
        ("observe.per_decad=2", "the nearest known key is `observe.per_decade`"),
    ],
)
def test_mistakes_are_answered(tmp_path, override, message):
    with pytest.raises(ValueError, match=r"^Study file '.*observed.toml': ") as error:
        read(tmp_path, TEXT + OBSERVE, override)
    assert message in str(error.value)


def test_what_could_not_be_observed_is_refused_before_any_flow(tmp_path):
    late = read(tmp_path, TEXT + OBSERVE, "observe.first_time=7.0")
    with pytest.raises(ValueError, match="must lie between 0 and the horizon 5"):
        sweep.check_study(late)
    labels = 'task={kind="digits", samples=4, problem="classification"}'
    other = read(tmp_path, TEXT + OBSERVE, labels, "module.inputs=64", "module.outputs=10")
    with pytest.raises(ValueError, match=r"\['kappa', 'lazy'\] need squared loss"):
        sweep.check_study(other)
