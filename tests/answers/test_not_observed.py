"""What nobody computed is said to be so, and no confidence rests on it."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray
from made_up_results import ASKED, ended, made_up
from scipy import stats

from flowlift import answers, studies, sweep
from flowlift.answers.probability import _greatest_p
from flowlift.sweep.sequential import _check

NAN = float("nan")


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(ASKED)
    return studies.read_study(path)


@pytest.fixture
def stopped(study):
    """Twelve flows of each size that all stopped once their loss was 1e-2."""
    results = made_up(study, np.full((2, 12), 1e-4))
    return ended(results, np.linspace(1, 4, 12), np.linspace(0.9e-2, 1e-2, 12), "loss below")


@pytest.mark.parametrize("time", [None, 4.5, 50.0])
def test_flows_that_stopped_at_a_loss_say_nothing_of_lower_ones(stopped, time):
    table = answers.success_probability(stopped, 1e-3, time)
    assert (table[["converged", "stuck", "not yet", "undecided"]] == 0).all(axis=None)
    assert (table["not observed"] == table["runs"]).all()
    assert set(table["why"]) == {"12 stopped (loss below)"}
    assert table["probability"].isna().all()
    assert table[["low", "high", "at most"]].to_numpy().tolist() == [[0, 1, 1]] * 2
    number = answers.learning_number(table, 0.1)
    assert (number.estimate, number.above, number.at_most, number.estimated) == (None,) * 3 + (
        False,
    )
    words = answers.in_words(number)
    assert words.startswith("not known: 24 of 24 runs are not observed: 24 stopped (loss below)")
    assert "95% confidence, no size" not in words
    assert "logistic fit: none" in words


def test_the_loss_that_stopped_them_was_met(stopped):
    table = answers.success_probability(stopped, 1e-2)
    assert (table["converged"] == 12).all()
    assert (table["probability"] == 1).all()
    by_then = answers.success_probability(stopped, 1e-2, 4.0)
    assert (by_then["converged"] == 12).all()


def test_a_time_beyond_the_horizon_is_not_observed(study):
    results = made_up(study, [[0.3] * 6, [0.3] * 3 + [1e-3] * 3])
    table = answers.success_probability(results, 0.1, 6.0)
    assert table["not observed"].tolist() == [6, 3]
    assert table["why"].tolist() == ["6 ended at the horizon", "3 ended at the horizon"]
    # What had met the loss by the horizon has met it for good.
    assert table["converged"].tolist() == [0, 3]
    assert table["low"].iloc[1] == pytest.approx(stats.beta.ppf(0.025, 3, 4))
    assert table["high"].iloc[1] == 1
    (answer,) = answers.answers(results, studies.Question((0.1,), (6.0,)))
    assert answer.not_observed == "9 of 12 runs are not observed: 9 ended at the horizon"


def test_what_happened_by_a_time_is_known_of_flows_that_went_on(study):
    """Seen to t = 5 and asked about t = 2: no run is undecided."""
    results = made_up(study, [[0.3, 0.3, 1e-3], [0.9, 1e-3, 1e-3]])
    table = answers.success_probability(results, 0.2, 2.0)
    assert table["converged"].tolist() == [1, 2]
    assert table["not yet"].tolist() == [2, 1]
    assert (table["undecided"] + table["not observed"] == 0).all()
    assert table["probability"].tolist() == pytest.approx([1 / 3, 2 / 3])
    # Ended early, by whatever, but after the time asked for and above the loss.
    early = ended(results, [[3.0, NAN, NAN]] * 2, 0.25, "non-finite")
    assert answers.outcomes(early, 0.2, 2.0).values[0].tolist()[0] == "not yet"


def test_between_two_save_times_both_on_the_grid_decide():
    """A brute-force check of the predicate at every loss and time, on random falling losses."""
    rng = np.random.default_rng(5)
    time = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    losses = np.sort(rng.uniform(size=(20, 5)))[:, ::-1].copy()
    lengths, over = rng.integers(1, 6, 20), rng.uniform(0, 0.9, 20)
    how = rng.choice(["horizon", "stagnation", "budget"], 20)
    end = time[lengths - 1] + over
    final = np.array([run[n - 1] for run, n in zip(losses, lengths, strict=True)]) * 0.9
    for run, n in zip(losses, lengths, strict=True):
        run[n:] = NAN
    results = xarray.Dataset(
        {
            "loss": (("size", "seed", "time"), losses[None]),
            "final_loss": (("size", "seed"), final[None]),
            "end_time": (("size", "seed"), end[None]),
            "result": (("size", "seed"), how[None]),
        },
        coords={"size": [4], "seed": np.arange(20), "time": time},
    )
    for loss, t in itertools.product([0.1, 0.5, 0.9], [0.5, 1.0, 3.0, 8.5, 20.0]):
        words = answers.verdicts(results, loss, t)
        for i in range(20):
            points = [*zip(time, losses[i], strict=True), (end[i], final[i])]
            yes = any(s <= t and v <= loss for s, v in points)
            no = any(s >= t and v > loss for s, v in points)
            expected = "yes" if yes else "no" if no else "not observed"
            assert words.verdict.values[0, i] == expected
            why = str(words.why.values[0, i])
            assert (why != "") == (expected == "not observed")
            if why == "between save times":
                assert any(v <= loss for _, v in points)
            elif why:
                assert how[i] in why


def test_a_loss_that_is_no_number_is_never_reached(study):
    results = made_up(study, [[0.3, 0.3, 0.3], [0.3, 0.3, 0.3]])
    for final in (NAN, -np.inf):
        broken = ended(results, [[2.0, 5.0, NAN]] * 2, final, "horizon")
        broken = broken.assign(loss=broken.loss.where(broken.time <= 1))
        words = answers.verdicts(broken, 0.1)
        assert words.verdict.values[0].tolist() == ["not observed"] * 2 + ["no"]
        assert words.why.values[0].tolist() == ["failed (non-finite)"] * 2 + [""]
        assert not answers.converged(broken, 0.1).any()
        assert answers.best_seen(broken, 0.1) is None


def test_times_in_single_precision_are_the_times_they_round(study):
    results = made_up(study, [[0.3, 1e-3], [0.3, 1e-3]])
    end = np.nextafter(np.float32(5.0), np.float32(0.0))
    rounded = results.assign(end_time=results.end_time * 0 + float(end))
    rounded = rounded.assign_coords(time=[0.0, 1.0, 2.0, float(end)])
    table = answers.success_probability(rounded, 0.1, 5.0)
    assert table["not yet"].tolist() == [1, 1]
    assert table["converged"].tolist() == [1, 1]


def test_flows_of_several_horizons_have_no_common_end_but_the_last(study):
    results = made_up(study, [[0.3] * 4, [1e-3] * 4])
    shorter = ended(results, [[2.0, 2.0, NAN, NAN]] * 2, 0.5, "horizon")
    table = answers.success_probability(shorter, 0.05)
    assert table["undecided"].tolist() == [2, 0]
    assert table["converged"].tolist() == [0, 2]
    assert table["why"].tolist() == ["2 ended at the horizon"] * 2
    # In the limit all that has not converged is undecided.
    assert set(answers.outcomes(shorter, 0.05).values.ravel()) == {"converged", "undecided"}


def test_bounds_hold_whatever_the_unobserved_would_have_done(study):
    """Every way in which three stopped flows could have ended, against the intervals given."""
    final = np.array([[1e-3] * 4 + [0.9] * 5, [1e-3] * 8 + [0.9]])
    results = made_up(study, final)
    at = np.full((2, 9), NAN)
    at[0, [0, 4]] = at[1, 0] = 1.0
    partly = ended(results, at, 0.5, "stagnation")
    table = answers.success_probability(partly, 0.2)
    low, high, estimates = [], [], set()
    for ways in itertools.product([1e-3, 0.9], repeat=3):
        filled = final.copy()
        filled[0, 0], filled[0, 4], filled[1, 0] = ways
        full = answers.success_probability(made_up(study, filled), 0.2)
        low.append(full["low"].to_numpy())
        high.append(full["high"].to_numpy())
        estimates.add(answers.learning_number(full, 0.2).estimate)
    np.testing.assert_allclose(table["low"], np.min(low, axis=0))
    np.testing.assert_allclose(table["high"], np.max(high, axis=0))
    number = answers.learning_number(table, 0.2)
    assert len(estimates) == 2
    assert (number.estimate, number.estimated) == (None, False)
    # A low target is met either way.
    assert answers.learning_number(table, 0.7).estimate == 4


def test_a_learning_number_is_known_where_the_unobserved_do_not_matter(study):
    results = made_up(study, np.stack([np.full(60, 0.9), np.full(60, 1e-3)]))
    at = np.full((2, 60), NAN)
    at[:, 0] = 1.0
    table = answers.success_probability(ended(results, at, 0.95, "budget"), 0.2)
    number = answers.learning_number(table, 0.2)
    assert (number.estimate, number.above, number.at_most) == (8, 4, 8)
    assert "whatever became of what was not seen (2 of 120 runs" in answers.in_words(number)


def test_paired_tests_take_the_greatest_p_that_the_unobserved_allow(study):
    for only, room in [((6, 0), (0, 0)), ((6, 1), (2, 3)), ((2, 9), (4, 1)), ((0, 0), (3, 3))]:
        ways = itertools.product(range(room[0] + 1), range(room[1] + 1))
        counts = [(only[0] + x, only[1] + y) for x, y in ways]
        p = [1.0 if x + y == 0 else stats.binomtest(x, x + y).pvalue for x, y in counts]
        assert _greatest_p(only, room) == pytest.approx(max(p))
    varied = dataclasses.replace(study, vary={"flow.solver": ("tsit5", "dopri8")})
    final = np.full((2, 2, 6), 1e-3)
    final[1] = 0.9
    results = made_up(varied, final, [("solver", ["tsit5", "dopri8"])])
    at = np.full((2, 2, 6), NAN)
    at[0, 0, :2], at[1, 0, 1:3] = 1.0, 1.0
    table = answers.paired_comparisons(ended(results, at, 0.95, "step limit"), 0.2)
    row = table.iloc[0]
    assert (row["pairs"], row["only first"], row["not observed"]) == (12, 9, 3)
    # One of the three may have succeeded second alone, that of which neither is known.
    assert row["p"] == pytest.approx(stats.binomtest(1, 10).pvalue)


def test_survival_does_not_take_stopped_flows_for_slow_ones(stopped, study):
    curve = answers.survival(stopped, 1e-3, 4)
    assert (curve["most"] == 1).all()
    assert curve["least"].iloc[-1] == 0
    assert curve["share"].isna().all()
    assert (curve["high"] == 1).all()
    # Certified flows never meet it: half of the flows are left, not none.
    results = made_up(study, [[1e-3, 1e-3, 0.9, 0.9]] * 2)
    at_rest = ended(results, [[NAN, NAN, 1.5, 1.5]] * 2, 0.9, "gradient below").assign(
        least_eigenvalue=results.final_loss * 0,
        gradient_norm_bound=results.final_loss * 0 + 1,
        curvature_bound=results.final_loss * 0,
    )
    curve = answers.survival(at_rest, 0.2, 4)
    assert curve["share"].iloc[-1] == 0.5
    assert curve["not observed"].iloc[-1] == 0
    table = answers.success_probability(at_rest, 0.2)
    assert table[["converged", "stuck", "not observed"]].to_numpy().tolist() == [[2, 2, 0]] * 2
    later = answers.verdicts(at_rest, 0.2, 1e9).verdict.values[0].tolist()
    assert later == ["yes"] * 2 + ["no"] * 2


def test_a_power_law_rests_on_no_flow_that_ended_before_the_others(study):
    wide = dataclasses.replace(study, lift=dataclasses.replace(study.lift, sizes=(4, 8, 16, 32)))
    rng = np.random.default_rng(0)
    final = 0.1 / np.array([4, 8, 16, 32])[:, None] * np.exp(0.1 * rng.standard_normal((4, 6)))
    results = made_up(wide, final)
    assert answers.power_law(results).refused == ""
    at = np.full((4, 6), NAN)
    at[3, :2] = 2.0
    for how, words in (("loss below", "2 stopped (loss below)"), ("budget", "2 spent the budget")):
        law = answers.power_law(ended(results, at, 0.01, how))
        assert law.refused.startswith("the losses of 2 of 24 flows at the common end are not")
        assert law.refused.endswith(words)


def test_a_verdict_that_was_not_observed_has_not_changed(stopped, study):
    fine = made_up(study, np.full((2, 12), 1e-4))
    question = studies.Question((1e-3,))
    table = sweep.compare_tolerances(stopped, fine, question)
    assert table["changed verdicts"].tolist() == [0, 0]


def test_a_sequential_design_refuses_what_no_run_can_show(study):
    flow = dataclasses.replace(study.flow, loss_below=0.1)
    with pytest.raises(ValueError, match=r"at which the flows stop, 0.1, but holds 0.05"):
        _check(dataclasses.replace(study, flow=flow), 0.1, 100)
    late = dataclasses.replace(study, question=studies.Question((0.2,), (2 * study.flow.horizon,)))
    with pytest.raises(ValueError, match=r"`question.times` must be at most the horizon"):
        _check(late, 0.1, 100)
