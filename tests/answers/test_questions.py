"""The question in a study file, its answers, and what they rest on."""

import dataclasses

import numpy as np
import pytest
import xarray
from made_up_results import ASKED, made_up
from study_text import TEXT

from flowlift import answers, lift, store, studies, sweep
from flowlift.studies.toml import plain
from flowlift.sweep import tolerance


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(ASKED)
    return studies.read_study(path)


@pytest.fixture
def unasked(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return studies.read_study(path)


def test_the_question_is_read_and_written_and_is_no_part_of_a_run(study, unasked, tmp_path):
    assert study.question == studies.Question((0.2, 0.05), (2.0,), 0.25, 0.95)
    assert study.question.pairs == ((0.2, 2.0), (0.05, 2.0))
    copy = tmp_path / "copy.toml"
    copy.write_text(studies.to_toml(study))
    assert studies.read_study(copy) == study
    assert "question" not in plain(unasked)
    for size, seed in ((4, 0), (8, 1)):
        identities = {studies.run_identity(s, size, seed) for s in (study, unasked)}
        assert len(identities) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("losses = [0.1]\ntime = [1.0]", "key `question.time` is unknown; .* `question.times`"),
        ("times = [1.0]", "key `question.losses` is missing"),
        ("losses = []", "`losses` must hold a loss"),
        ("losses = [0.1, inf]", "`losses` must hold finite numbers, but is .0.1, inf"),
        ("losses = [1]\ntimes = [0.0]", "`times` must hold positive finite numbers, but is .0.0"),
        ("losses = [0.1]\ndelta = 1.5", "`delta` must lie between 0 and 1"),
    ],
)
def test_a_question_without_a_meaning_is_refused(tmp_path, line, message):
    path = tmp_path / "wrong.toml"
    path.write_text(f"{TEXT}\n[question]\n{line}\n")
    with pytest.raises(ValueError, match=message):
        studies.read_study(path)


def test_a_question_takes_losses_of_any_sign(tmp_path):
    path = tmp_path / "any.toml"
    path.write_text(f"{TEXT}\n[question]\nlosses = [-0.5, 0, 0.1]\n")
    assert studies.read_study(path).question.losses == (-0.5, 0.0, 0.1)


def test_the_question_of_results_can_be_asked_otherwise(study, unasked):
    results = made_up(study, [[0.01, 0.3], [0.01, 0.01]])
    assert answers.question_of(results) == study.question
    other = answers.question_of(results, losses=(0.5,), delta=0.4)
    assert (other.losses, other.times, other.delta) == ((0.5,), (2.0,), 0.4)
    without = made_up(unasked, [[0.01, 0.3], [0.01, 0.01]])
    with pytest.raises(ValueError, match=r"holds no table \[question\]"):
        answers.question_of(without)
    assert answers.question_of(without, losses=(0.1,)).pairs == ((0.1, None),)


def test_every_variant_is_answered_apart(study):
    axes = [("mean", [1, 3]), ("solver", ["tsit5", "dopri8"])]
    vary = {"lift.edges.mean": (1, 3), "flow.solver": ("tsit5", "dopri8")}
    study = dataclasses.replace(study, vary=vary, seeds=30)
    final = np.full((2, 2, 2, 30), 1e-3)
    # Only one of four variants has a size that fails.
    final[1, 0, 0] = 0.9
    results = made_up(study, final, axes)
    loose = answers.answers(results, study.question)[0]
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
    parts = {tuple(v.values()): s for v, s in answers.variant_studies(results)}
    assert parts[3, "dopri8"].lift.edges == lift.BernoulliInDegree(3.0)
    assert parts[3, "dopri8"].flow.solver == "dopri8"


def test_pairs_are_tested_within_the_other_axes(study):
    axes = [("mean", [1, 3]), ("solver", ["tsit5", "dopri8"])]
    study = dataclasses.replace(study, vary={a: tuple(v) for a, v in axes})
    final = np.full((2, 2, 2, 10), 1e-3)
    final[1, 0, 0, :6] = 0.9
    table = answers.paired_comparisons(made_up(study, final, axes), 0.2)
    assert table["pairs"].tolist() == [20] * 4
    row = table.query("axis == 'mean' and elsewhere == 'solver = tsit5'").iloc[0]
    assert (row["both"], row["only first"], row["only second"]) == (14, 6, 0)
    assert row["p"] == pytest.approx(2 * 0.5**6)
    assert table.query("axis == 'mean' and elsewhere == 'solver = dopri8'")["p"].item() == 1.0


def test_learning_numbers_are_put_in_words():
    table = lambda k: answers.probability_table(_counts(k))
    words = answers.in_words(answers.learning_number(table([0, 0, 99, 100]), 0.1))
    assert words.startswith("above 8 and at most 16 with 95% confidence; monotone fit: 16")
    assert "between 8 and 16 (the data separate)" in words
    none = answers.in_words(answers.learning_number(table([1, 2, 3, 4]), 0.1))
    assert none.startswith("above 32 with 95% confidence, no size suffices yet")
    assert "no size reaches it" in none


def _counts(successes):
    import pandas

    k = np.asarray(successes)
    index = pandas.Index([4, 8, 16, 32], name="lift size")
    return pandas.DataFrame({"converged": k, "stuck": 100 - k, "undecided": 0}, index=index)


def test_the_best_flow_bounds_the_approximation_number(study):
    results = made_up(study, [[0.3, 0.04, 0.02], [0.01, 0.5, np.nan]])
    assert answers.best_seen(results, 0.05) == answers.Approximation(4, 0.02, 2)
    assert answers.best_seen(results, 0.015) == answers.Approximation(8, 0.01, 0)
    assert answers.best_seen(results, 1e-9) is None


def test_a_planted_teacher_bounds_the_approximation_number(unasked):
    module = studies.structure_study(plain(unasked)).module
    raw = plain(unasked) | {
        "task": {
            "kind": "student_teacher",
            "teacher": plain(unasked)["module"],
            "samples": 5,
            "seed": 3,
            "copies": 3,
        }
    }
    study = studies.structure_study(raw)
    # h2 gets half as many copies as the size says, rounded to even: 2.5 is 2, and 3 need 6.
    found = answers.planted_witness(study, 1e-20)
    assert (found.size, found.seed) == (6, None)
    assert 0 <= found.loss < 1e-20
    assert study.lift.copies(module.build(), 5)["h2"] == 2
    # Counted in parameters, it is the size that means lifts of so many copies.
    counted = raw | {"lift": raw["lift"] | {"size_counts": "parameters"}}
    by_count = studies.structure_study(counted)
    size = answers.planted_witness(by_count, 1e-20).size
    assert size > found.size
    assert by_count.lift.copies(module.build(), size) == study.lift.copies(module.build(), 6)
    assert answers.planted_witness(unasked, 1.0) is None
    noisy = studies.structure_study(raw | {"task": raw["task"] | {"noise": 1.0}})
    assert answers.planted_witness(noisy, 1e-3) is None


def test_a_change_of_the_loss_is_found_where_it_is_largest(study):
    coarse = made_up(study, [[0.01, 0.3], [0.01, 0.04]])
    fine = coarse.copy(deep=True)
    fine.loss[1, 1, 2] /= 1.25
    fine.loss[1, 0, 1] *= 1.01
    fine.final_loss[1, 1] = 0.06
    fine.loss[1, 1, 3] = 0.06
    table = sweep.compare_tolerances(coarse, fine, studies.Question((0.05,)))
    assert table["lift size"].tolist() == [4, 8]
    assert table["largest change"].tolist() == pytest.approx([0.0, 1 / 3])
    assert (table["seed"][1], table["time"][1], table["loss"][1]) == (1, 5.0, 0.06)
    assert table["changed verdicts"].tolist() == [0, 1]


def test_the_tolerance_floor_is_rtol_squared_of_the_initial_loss(study):
    results = made_up(study, [[0.01, 0.3], [0.01, 0.04]])
    assert sweep.tolerance_floor(results) == pytest.approx(study.flow.rtol**2)
    looser = results.assign_coords(rtol=1e-2)
    assert sweep.tolerance_floor(looser) == pytest.approx(1e-4)


@pytest.mark.slow
def test_finer_runs_are_kept_beside_the_study_and_change_little(study, tmp_path):
    small = dataclasses.replace(
        study,
        lift=dataclasses.replace(study.lift, sizes=(4,)),
        flow=dataclasses.replace(study.flow, rtol=1e-4, atol=1e-6),
    )
    before = sweep.run_study(small, tmp_path, progress=False)
    assert tolerance.tolerances_there(small, tmp_path) is None
    table = sweep.check_tolerance(small, tmp_path, seeds=1, progress=False)
    assert table["runs"].tolist() == [1]
    assert 0 < table["largest change"][0] < 1e-2
    xarray.testing.assert_equal(store.load(tmp_path), before)
    with pytest.raises(ValueError, match="`seeds` must lie between 1 and the study's 2"):
        sweep.check_tolerance(small, tmp_path, seeds=3)
