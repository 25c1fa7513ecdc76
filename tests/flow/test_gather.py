"""Solutions of any origin become the dataset that answers, figures and pages take."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import flowlift
from flowlift import Outcome, answers, plot, studies
from flowlift.flow import FlowSolution, FlowStats, dataset

NAN = float("nan")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def decay(rate, times, result=Outcome.HORIZON, dtype=np.float64, **observations):
    """The flow of L = exp(-2 rate t), as `solve` would leave it."""
    t = np.asarray(times, dtype)
    loss = np.exp(-2 * rate * t).astype(dtype)
    known = {name: np.asarray(values) for name, values in observations.items()}
    return FlowSolution(
        model=np.ones(3, dtype),
        time=float(t[-1]),
        result=result,
        times=t,
        loss=loss,
        gradient_norm=np.sqrt(loss),
        arc_length=1 - np.sqrt(loss),
        energy=1 - loss,
        distance=1 - np.sqrt(loss),
        observations=known,
        snapshots={},
        stats=FlowStats(gradients=10, steps=5, seconds=0.1),
        solver="tsit5",
        solvers=("tsit5",),
        precision=t.dtype.name,
    )


A, B = [0.0, 1.0, 4.0], [0.0, 0.5, 2.0, 4.0]
RUNS = [
    (8, 1, decay(1.0, A)),
    (8, 0, decay(0.1, B)),
    (4, 0, decay(0.1, A)),
    # Stopped at a loss; and failed, with a loss that is no number.
    (4, 1, decay(0.3, [0.0, 0.5, 1.7], Outcome.LOSS_BELOW)),
    (16, 0, decay(2.0, [0.0, 0.5, 1.0], Outcome.NON_FINITE)),
]
RUNS[-1][2].loss[-1] = NAN


def test_every_record_is_where_its_flow_was_saved_and_nowhere_else():
    data = flowlift.gather(RUNS, loss_name="error", size_name="width")
    assert dict(data.sizes) == {"size": 3, "seed": 2, "time": 6}
    assert data.time.values.tolist() == [0, 0.5, 1, 1.7, 2, 4]
    for size, seed, solution in RUNS:
        here, alone = data.sel(size=size, seed=seed), dataset(solution)
        for name in ("loss", "energy", "gradient_norm"):
            np.testing.assert_array_equal(here[name].sel(time=alone.time), alone[name])
            others = ~np.isin(data.time.values, solution.times)
            assert np.isnan(here[name].values[others]).all()
        assert float(here.end_time) == solution.time
        np.testing.assert_equal(float(here.final_loss), solution.loss[-1])
        assert (str(here.result.values), int(here.parameters)) == (solution.result.value, 3)
    missing = data.sel(size=16, seed=1)
    assert str(missing.result.values) == ""
    assert np.isnan(missing.end_time)
    assert (data.loss.attrs["long_name"], data["size"].attrs["long_name"]) == ("error", "width")


def test_it_answers_as_a_store_does():
    data = flowlift.gather(RUNS)
    table = answers.success_probability(data, 0.1, 2.0)
    assert table["runs"].tolist() == [2, 2, 1]
    # exp(-2 t) is below 0.1 from 1.15 on, seen at t = 4 alone: nothing is known between 1 and 4.
    assert table["why"].tolist() == [
        "1 stopped (loss below)",
        "1 between save times",
        "1 failed (non-finite)",
    ]
    assert table["converged"].tolist() == [0, 0, 0]
    assert answers.best_seen(data, 0.2) == answers.Approximation(8, np.exp(-8.0), 1)
    assert "not observed" in answers.power_law(data).refused
    assert answers.summary(data)["result"].tolist()[-1] == "1 non-finite"
    question = answers.question_of(data, losses=(0.1,), delta=0.5)
    assert question == studies.Question((0.1,), (), 0.5)
    with pytest.raises(ValueError, match="gathered from solutions"):
        answers.study_of(data)


def test_medians_of_flows_with_other_save_times_and_ends_never_rise():
    rng = np.random.default_rng(3)
    runs = [
        (4, seed, decay(rate, np.append(0.0, np.sort(rng.uniform(0.1, end, 5)))))
        for seed, (rate, end) in enumerate(rng.uniform(0.1, 3, (9, 2)))
    ]
    data = flowlift.gather(runs)
    for line in plot.loss_vs_time(data).lines:
        y = line.get_ydata()[np.isfinite(line.get_ydata())]
        assert (np.diff(y) <= 0).all()


@pytest.mark.slow  # draws a whole page
def test_the_page_says_where_the_results_are_from():
    data = flowlift.gather(RUNS)
    text = plot.report(data, question=studies.Question((0.1,), (1.5,)))
    assert "gathered from solutions" in text
    assert "flowlift run" not in text
    assert len(list(plot.figures(data, studies.Question((0.1,))))) == 6
    assert "gathered from solutions without a question" in plot.report(data)


def test_further_axes_are_dimensions_and_keep_their_order():
    runs = [
        {"law": law, "size": 8, "seed": seed, "solution": decay(rate, A)}
        for law, rate in (("sparse", 1.0), ("dense", 0.1))
        for seed in (1, 0)
    ]
    data = flowlift.gather(runs)
    assert data.final_loss.dims == ("law", "size", "seed")
    assert data["law"].values.tolist() == ["sparse", "dense"]
    table = answers.paired_comparisons(data, 0.1)
    assert table[["first", "only first", "neither"]].iloc[0].tolist() == ["sparse", 2, 0]
    assert answers.success_probability(data, 0.1)["converged"].tolist() == [2, 0]


def test_single_precision_and_observers_values_are_kept():
    single = decay(1.0, A, dtype=np.float32, top=np.arange(6, dtype=np.float32).reshape(3, 2))
    data = flowlift.gather([(4, 0, single), (4, 1, single)])
    assert data.loss.dtype == np.float32
    assert data.top.dims == ("size", "seed", "time", "top_0")
    np.testing.assert_array_equal(data.top.sel(size=4, seed=1), single.observations["top"])
    mixed = flowlift.gather([(4, 0, single), (4, 1, decay(1.0, A, count=np.arange(3)))])
    assert mixed.loss.dtype == np.float64
    assert mixed["count"].sel(size=4, seed=1).values.tolist() == [0, 1, 2]
    assert np.isnan(mixed["count"].sel(size=4, seed=0)).all()
    assert mixed.precision == "float32, float64"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "is empty"),
        ([(8, 0)], "run 0 is tuple without"),
        ([(8, 0, "solution")], "run 0 is tuple without"),
        ([(8.5, 0, RUNS[0][2])], "must have an integer as 'size', but run 0 has 8.5"),
        ([RUNS[0], RUNS[0]], "runs 0 and 1 are both at"),
        ([RUNS[0], {"a": 1, "size": 8, "seed": 0, "solution": RUNS[0][2]}], "the same axes in all"),
        ([{"loss": 1, "size": 8, "seed": 0, "solution": RUNS[0][2]}], "but has 'loss'"),
        (
            [(4, 0, decay(1.0, A, k=np.ones((3, 2)))), (4, 1, decay(1.0, A, k=np.ones((3, 3))))],
            "of one shape at each time",
        ),
    ],
)
def test_what_cannot_be_gathered_is_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        flowlift.gather(runs)
