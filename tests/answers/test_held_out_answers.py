"""Questions of held-out losses, which fall and rise again: what was seen, and no more."""

import made_up_results
import numpy as np
import pytest
import xarray
from study_text import TEXT

from flowlift import answers, studies
from flowlift.plot.loss_vs_time import loss_vs_time
from flowlift.plot.success_map import success_shares

# At t = 0, 1, 2, 5: falls, and rises again.
FALLS = [1.0, 0.4, 0.2, 0.7]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(TEXT + '\n[question]\nlosses = [0.5]\ntimes = [2.0]\non = "held out"\n')
    return studies.read_study(file)


def with_held_out(study, along, final=None):
    """Results of two sizes and two seeds whose held-out losses are all the same."""
    data = made_up_results.made_up(study, np.full((2, 2), 0.01))
    along = np.broadcast_to(np.asarray(along, float), data.loss.shape)
    last = along[..., -1] if final is None else np.full((2, 2), final)
    return data.assign(
        held_out_loss=(data.loss.dims, along), final_held_out_loss=(data.final_loss.dims, last)
    )


def word(data, loss, time=None):
    found = answers.verdicts(data, loss, time, on="held out")
    assert (found.verdict == found.verdict[0, 0]).all()
    return str(found.verdict[0, 0].values), str(found.why[0, 0].values)


def test_below_is_below_at_that_time_alone(study):
    data = with_held_out(study, FALLS)
    assert word(data, 0.5, 2.0) == ("yes", "")
    # Seen below before, above at the time asked.
    assert word(data, 0.5, 5.0) == ("no", "")
    assert word(data, 0.5) == ("no", "")
    assert word(data, 0.8) == ("yes", "")
    # The training loss, of which once below is always below, is another question.
    assert (answers.verdicts(data, 0.5, 5.0).verdict == "yes").all()


def test_between_records_neighbours_decide_where_they_agree(study):
    data = with_held_out(study, FALLS)
    assert word(data, 0.5, 1.5) == ("yes", "")
    assert word(data, 0.1, 1.5) == ("no", "")
    assert word(data, 0.5, 3.0) == ("not observed", "between save times")
    assert word(data, 0.5, 0.5) == ("not observed", "between save times")


def test_nothing_is_known_after_the_end(study):
    ended = made_up_results.ended(with_held_out(study, FALLS), 1.5, 0.3, "loss below")
    along = ended.held_out_loss.where(ended.time <= 1.5)
    data = ended.assign(held_out_loss=along, final_held_out_loss=ended.final_loss * 0 + 0.3)
    assert word(data, 0.5, 1.2) == ("yes", "")
    assert word(data, 0.35, 1.2) == ("not observed", "between save times")
    assert word(data, 0.5, 2.0) == ("not observed", "stopped (loss below)")
    assert word(data, 0.5) == ("not observed", "stopped (loss below)")
    # A training loss of 0.3 that was met stays met.
    assert (answers.verdicts(data, 0.3, 2.0).verdict == "yes").all()


def test_at_a_certified_critical_point_it_stays_what_it_is(study):
    ended = made_up_results.ended(with_held_out(study, FALLS), 1.5, 0.9, "gradient below")
    flat = dict.fromkeys(("gradient_norm_bound", "curvature_bound"), ended.final_loss * 0 + 1)
    data = ended.assign(
        held_out_loss=ended.held_out_loss.where(ended.time <= 1.5),
        final_held_out_loss=ended.final_loss * 0 + 0.3,
        least_eigenvalue=ended.final_loss * 0,
        **flat,
    )
    assert word(data, 0.5, 4.0) == ("yes", "")
    assert word(data, 0.2, 4.0) == ("no", "")
    assert (answers.outcomes(data, 0.2, on="held out") == "stuck").all()
    assert (answers.outcomes(data, 0.5, on="held out") == "converged").all()


def test_the_first_time_below_is_asked_apart(study):
    data = with_held_out(study, FALLS)
    when, met = answers.time_to_loss(data, 0.3, on="held out")
    assert met.all()
    assert (when == 2.0).all()
    assert answers.converged(data, 0.3, on="held out").all()
    assert not answers.converged(data, 0.3, 1.5, on="held out").any()
    curve = answers.survival(data, 0.3, 4, on="held out")
    assert curve["time"].tolist() == [2.0]
    assert curve["share"].tolist() == [0.0]


def test_shares_on_the_map_rise_and_fall(study):
    data = with_held_out(study, FALLS)
    times, shares, sizes, unseen = success_shares(data, 0.5, on="held out")
    assert times.tolist() == [1.0, 2.0, 5.0]
    assert shares.tolist() == [[1.0, 1.0, 0.0]] * 2
    assert sizes.tolist() == [4, 8]
    assert not unseen.any()


def test_a_question_says_which_loss(study):
    data = with_held_out(study, FALLS)
    question = answers.question_of(data)
    (answer,) = answers.answers(data, question)
    assert answer.event == "held-out L ≤ 0.5 at t = 2"
    assert answer.table["converged"].tolist() == [2, 2]
    other = answers.question_of(data, on="training")
    assert answers.answers(data, other)[0].event == "L ≤ 0.5 by t = 2"
    counts = answers.success_probability(data, 0.5, 5.0, on="held out")
    assert counts["not yet"].tolist() == [2, 2]


def test_runs_without_a_record_are_not_observed(study):
    data = with_held_out(study, FALLS)
    half = data.seed == 0
    data = data.assign(
        held_out_loss=data.held_out_loss.where(half),
        final_held_out_loss=data.final_held_out_loss.where(half),
    )
    found = answers.verdicts(data, 0.5, 2.0, on="held out")
    assert found.verdict.sel(size=4).values.tolist() == ["yes", "not observed"]
    assert found.why.sel(size=4).values.tolist() == ["", "no held-out loss"]


def test_bad_words_and_results_without_held_out_losses_are_refused(study):
    data = made_up_results.made_up(study, np.full((2, 2), 0.01))
    with pytest.raises(ValueError, match="must be 'training' where flows have no held-out data"):
        answers.verdicts(data, 0.5, on="held out")
    with pytest.raises(ValueError, match="Argument `on` must be 'training' or 'held out'"):
        answers.success_probability(data, 0.5, on="test")
    with pytest.raises(ValueError, match="Argument `on` must be 'training' or 'held out'"):
        studies.Question((0.5,), on="validation")


def test_the_records_of_one_axis_do_not_decide_for_another(study):
    """Over a further axis, with a common end of each variant."""
    axes = [("task.samples", [8, 16])]
    data = made_up_results.made_up(study, np.full((2, 2, 2), 0.01), axes)
    along = np.stack([np.broadcast_to(row, data.loss.shape[1:]) for row in (FALLS, FALLS[::-1])])
    data = data.assign(
        held_out_loss=(data.loss.dims, along),
        final_held_out_loss=(data.final_loss.dims, along[..., -1]),
        end_time=data.end_time * xarray.DataArray([1.0, 2.0], dims="task.samples"),
    )
    found = answers.verdicts(data, 0.5, on="held out").verdict
    assert (found[0] == "no").all()
    assert (found[1] == "no").all()


def test_the_held_out_median_is_dashed_beside_the_training_loss(study):
    data = with_held_out(study, FALLS)
    ax = loss_vs_time(data)
    dashed = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert len(dashed) == 2
    np.testing.assert_array_equal(dashed[0].get_xdata(), [1.0, 2.0, 5.0])
    np.testing.assert_array_equal(dashed[0].get_ydata(), FALLS[1:])
    plain = loss_vs_time(data.drop_vars(["held_out_loss", "final_held_out_loss"]))
    assert not [line for line in plain.get_lines() if line.get_linestyle() == "--"]
