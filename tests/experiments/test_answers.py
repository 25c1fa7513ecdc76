"""The question in a study file, its answers, and what they rest on."""

import dataclasses

import numpy as np
import pytest
import xarray
from test_study_file import TEXT

from flowlift import experiments, lift
from flowlift.experiments import tolerance
from flowlift.experiments.study_file import plain

ASKED = TEXT + "\n[question]\nlosses = [0.2, 0.05]\ntimes = [2.0]\ndelta = 0.25\n"


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(ASKED)
    return experiments.read_study(path)


@pytest.fixture
def unasked(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return experiments.read_study(path)


def made_up(study, final, axes=()):
    """Results as a store would give them: losses that fall from 1 to `final` at the horizon."""
    final = np.asarray(final, float)
    time = np.array([0.0, 1.0, 2.0, 5.0])
    dims = (*(name for name, _ in axes), "size", "seed")
    loss = final[..., None] ** (time / 5.0)
    return xarray.Dataset(
        {
            "loss": ((*dims, "time"), loss, {"long_name": "loss L", "units": "loss"}),
            "final_loss": (dims, final),
            "end_time": (dims, np.full(final.shape, 5.0)),
            "result": (dims, np.full(final.shape, "horizon")),
            "final_gradient_norm": (dims, np.full(final.shape, 0.1)),
            "parameters": (dims, np.full(final.shape, 10)),
            "edges": (dims, np.full(final.shape, 10)),
            "seconds": (dims, np.full(final.shape, 0.5)),
        },
        coords=dict(axes)
        | {
            "size": ("size", list(study.lift.sizes), {"long_name": "lift size n"}),
            "seed": np.arange(final.shape[-1]),
            "time": ("time", time, {"long_name": "flow time t", "units": "learning rate × steps"}),
        },
        attrs={"study": experiments.to_toml(study), "version_flowlift": "0.1.0"},
    )


def test_the_question_is_read_and_written_and_is_no_part_of_a_run(study, unasked, tmp_path):
    assert study.question == experiments.Question((0.2, 0.05), (2.0,), 0.25, 0.95)
    assert study.question.pairs == ((0.2, 2.0), (0.05, 2.0))
    copy = tmp_path / "copy.toml"
    copy.write_text(experiments.to_toml(study))
    assert experiments.read_study(copy) == study
    assert "question" not in plain(unasked)
    for size, seed in ((4, 0), (8, 1)):
        identities = {experiments.run_identity(s, size, seed) for s in (study, unasked)}
        assert len(identities) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("losses = [0.1]\ntime = [1.0]", "key `question.time` is unknown; .* `question.times`"),
        ("times = [1.0]", "key `question.losses` is missing"),
        ("losses = []", "`losses` must hold a loss"),
        ("losses = [0.1, -1.0]", "`losses` must be positive"),
        ("losses = [0.1]\ndelta = 1.5", "`delta` must lie between 0 and 1"),
    ],
)
def test_a_question_without_a_meaning_is_refused(tmp_path, line, message):
    path = tmp_path / "wrong.toml"
    path.write_text(f"{TEXT}\n[question]\n{line}\n")
    with pytest.raises(ValueError, match=message):
        experiments.read_study(path)


def test_the_question_of_results_can_be_asked_otherwise(study, unasked):
    results = made_up(study, [[0.01, 0.3], [0.01, 0.01]])
    assert experiments.question_of(results) == study.question
    other = experiments.question_of(results, losses=(0.5,), delta=0.4)
    assert (other.losses, other.times, other.delta) == ((0.5,), (2.0,), 0.4)
    without = made_up(unasked, [[0.01, 0.3], [0.01, 0.01]])
    with pytest.raises(ValueError, match=r"holds no table \[question\]"):
        experiments.question_of(without)
    assert experiments.question_of(without, losses=(0.1,)).pairs == ((0.1, None),)


def test_every_variant_is_answered_apart(study):
    axes = [("mean", [1, 3]), ("solver", ["tsit5", "dopri8"])]
    vary = {"lift.edges.mean": (1, 3), "flow.solver": ("tsit5", "dopri8")}
    study = dataclasses.replace(study, vary=vary, seeds=30)
    final = np.full((2, 2, 2, 30), 1e-3)
    # Only one of four variants has a size that fails.
    final[1, 0, 0] = 0.9
    results = made_up(study, final, axes)
    loose = experiments.answers(results, study.question)[0]
    assert loose.event == "L ≤ 0.2 by t = 2"
    assert loose.table.index.names == ["mean", "solver", "lift size"]
    assert loose.table["runs"].tolist() == [30] * 8
    estimates = {tuple(v.values()): number.estimate for v, number, _ in loose.numbers}
    assert estimates == {
        (1, "tsit5"): 4,
        (1, "dopri8"): 4,
        (3, "tsit5"): 8,
        (3, "dopri8"): 4,
    }
    studies = {tuple(v.values()): s for v, s in experiments.variant_studies(results)}
    assert studies[3, "dopri8"].lift.edges == lift.BernoulliInDegree(3.0)
    assert studies[3, "dopri8"].flow.solver == "dopri8"


def test_pairs_are_tested_within_the_other_axes(study):
    axes = [("mean", [1, 3]), ("solver", ["tsit5", "dopri8"])]
    study = dataclasses.replace(study, vary={a: tuple(v) for a, v in axes})
    final = np.full((2, 2, 2, 10), 1e-3)
    final[1, 0, 0, :6] = 0.9
    table = experiments.paired_comparisons(made_up(study, final, axes), 0.2)
    assert table["pairs"].tolist() == [20] * 4
    row = table.query("axis == 'mean' and elsewhere == 'solver = tsit5'").iloc[0]
    assert (row["both"], row["only first"], row["only second"]) == (14, 6, 0)
    assert row["p"] == pytest.approx(2 * 0.5**6)
    assert table.query("axis == 'mean' and elsewhere == 'solver = dopri8'")["p"].item() == 1.0


def test_learning_numbers_are_put_in_words():
    table = lambda k: experiments.probability_table(_counts(k))
    words = experiments.in_words(experiments.learning_number(table([0, 0, 99, 100]), 0.1))
    assert words.startswith("above 8 and at most 16 with 95% confidence; monotone fit: 16")
    assert "between 8 and 16 (the data separate)" in words
    none = experiments.in_words(experiments.learning_number(table([1, 2, 3, 4]), 0.1))
    assert none.startswith("above 32 with 95% confidence, no size suffices yet")
    assert "no size reaches it" in none


def _counts(successes):
    import pandas

    k = np.asarray(successes)
    index = pandas.Index([4, 8, 16, 32], name="lift size")
    return pandas.DataFrame({"converged": k, "stuck": 100 - k, "undecided": 0}, index=index)


def test_the_best_flow_bounds_the_approximation_number(study):
    results = made_up(study, [[0.3, 0.04, 0.02], [0.01, 0.5, np.nan]])
    assert experiments.best_seen(results, 0.05) == experiments.Approximation(4, 0.02, 2)
    assert experiments.best_seen(results, 0.015) == experiments.Approximation(8, 0.01, 0)
    assert experiments.best_seen(results, 1e-9) is None


def test_a_planted_teacher_bounds_the_approximation_number(unasked):
    module = experiments.structure_study(plain(unasked)).module
    raw = plain(unasked) | {
        "task": {
            "kind": "student_teacher",
            "teacher": plain(unasked)["module"],
            "samples": 5,
            "seed": 3,
            "copies": 3,
        }
    }
    study = experiments.structure_study(raw)
    # h2 gets half as many copies as the size says, rounded to even: 2.5 is 2, and 3 need 6.
    found = experiments.planted_witness(study, 1e-20)
    assert (found.size, found.seed) == (6, None)
    assert 0 <= found.loss < 1e-20
    assert study.lift.copies(module.build(), 5)["h2"] == 2
    # Counted in parameters, it is the size that means lifts of so many copies.
    counted = raw | {"lift": raw["lift"] | {"size_counts": "parameters"}}
    by_count = experiments.structure_study(counted)
    size = experiments.planted_witness(by_count, 1e-20).size
    assert size > found.size
    assert by_count.lift.copies(module.build(), size) == study.lift.copies(module.build(), 6)
    assert experiments.planted_witness(unasked, 1.0) is None
    noisy = experiments.structure_study(raw | {"task": raw["task"] | {"noise": 1.0}})
    assert experiments.planted_witness(noisy, 1e-3) is None


def test_a_change_of_the_loss_is_found_where_it_is_largest(study):
    coarse = made_up(study, [[0.01, 0.3], [0.01, 0.04]])
    fine = coarse.copy(deep=True)
    fine.loss[1, 1, 2] /= 1.25
    fine.loss[1, 0, 1] *= 1.01
    fine.final_loss[1, 1] = 0.06
    fine.loss[1, 1, 3] = 0.06
    table = experiments.compare_tolerances(coarse, fine, experiments.Question((0.05,)))
    assert table["lift size"].tolist() == [4, 8]
    assert table["largest change"].tolist() == pytest.approx([0.0, 1 / 3])
    assert (table["seed"][1], table["time"][1], table["loss"][1]) == (1, 5.0, 0.06)
    assert table["changed verdicts"].tolist() == [0, 1]


def test_the_tolerance_floor_is_rtol_squared_of_the_initial_loss(study):
    results = made_up(study, [[0.01, 0.3], [0.01, 0.04]])
    assert experiments.tolerance_floor(results) == pytest.approx(study.flow.rtol**2)
    looser = results.assign_coords(rtol=1e-2)
    assert experiments.tolerance_floor(looser) == pytest.approx(1e-4)


@pytest.mark.slow
def test_finer_runs_are_kept_beside_the_study_and_change_little(study, tmp_path):
    small = dataclasses.replace(
        study,
        lift=dataclasses.replace(study.lift, sizes=(4,)),
        flow=dataclasses.replace(study.flow, rtol=1e-4, atol=1e-6),
    )
    before = experiments.run_study(small, tmp_path, progress=False)
    assert tolerance.tolerances_there(small, tmp_path) is None
    table = experiments.check_tolerance(small, tmp_path, seeds=1, progress=False)
    assert table["runs"].tolist() == [1]
    assert 0 < table["largest change"][0] < 1e-2
    xarray.testing.assert_equal(experiments.load(tmp_path), before)
    with pytest.raises(ValueError, match="`seeds` must lie between 1 and the study's 2"):
        experiments.check_tolerance(small, tmp_path, seeds=3)
