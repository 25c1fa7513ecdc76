"""Flows to infinity are told from flows to a point and from passages that only look like it."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from flowlift import answers, gather, solve, tasks
from flowlift.flow import LogLoss, LogTimes

TIMES = np.logspace(-1, 6, 57)


def results_of(distance):
    """Runs whose distances are given, as results; the loss is of no account."""
    done = solve(jnp.ones(1), lambda w: jnp.sum(w**2), 1.0, save=[1.0], solver="tsit5")
    data = gather([(1, 0, done)])
    data = data.drop_vars([name for name in data.data_vars if "time" in data[name].dims])
    data = data.drop_vars("time").assign_coords(time=TIMES)
    return data.assign(distance=(("size", "seed", "time"), np.asarray(distance)[None, None]))


def verdict(distance):
    found = answers.divergence(results_of(distance)).isel(size=0, seed=0)
    return bool(found.diverging), found


def test_the_flow_of_an_exponential_goes_to_infinity_like_log_t():
    """L = e^-w: w = log(t + e^(w_0))."""
    save = LogTimes(8, 0.1)
    run = solve(jnp.zeros(()), lambda w: jnp.exp(-w), 1e6, save=save, rtol=1e-8)
    np.testing.assert_allclose(run.distance, np.log(run.times + 1), rtol=1e-6, atol=1e-9)
    found = answers.divergence(gather([(1, 0, run)])).isel(size=0, seed=0)
    assert bool(found.diverging)
    assert float(found.degree) == 1
    assert float(found.decades) == 3
    assert -0.01 < float(found.low) <= float(found.exponent) <= float(found.high) < 0.01
    # It never counts as converged unless its loss was met, nor as one that cannot be.
    runs = gather([(1, seed, run) for seed in range(3)])
    assert set(answers.outcomes(runs, 1e-9).values.ravel()) == {"diverging"}
    assert set(answers.outcomes(runs, 1e-5).values.ravel()) == {"converged"}
    assert set(answers.outcomes(runs, 1e-9, 1e3).values.ravel()) == {"not yet"}
    table = answers.success_probability(runs, 1e-9)
    assert table["diverging"].tolist() == [3]
    assert table["undecided"].sum() + table["converged"].sum() == 0
    assert (table["probability"].tolist(), table["possible"].tolist()) == ([0.0], [1.0])
    either_way = answers.learning_number(table, delta=0.1, undecided_converge=True)
    assert either_way.estimate == 1


@pytest.mark.slow  # Flows to times of e^1000.
@pytest.mark.parametrize("degree", [1, 2])
def test_a_log_loss_flow_to_infinity_is_found_in_its_own_time(degree):
    """|theta|^H ~ log t, which is its time; one that is at rest in u = 1000 is none."""
    x = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -0.5]])
    apply = lambda m, x: (x @ m["w"]) * m["a"] if degree == 2 else x @ m["w"]
    far = tasks.supervised(x, np.array([1.0, 1.0, -1.0, -1.0]), "exponential", apply=apply)
    start = {"w": jnp.array([0.1, -0.1])} | ({"a": jnp.ones(())} if degree == 2 else {})
    run = solve(start, far, 1000.0, dynamics=LogLoss(float(degree)), save=LogTimes(8, 0.1))
    found = answers.divergence(gather([(1, 0, run)])).isel(size=0, seed=0)
    assert bool(found.diverging)
    assert float(found.exponent) == pytest.approx(1 / degree, abs=0.05)
    assert set(answers.outcomes(gather([(1, 0, run)]), 0.0).values.ravel()) <= {
        "diverging",
        "converged",
    }


GROWS = {
    "log t": np.log(1 + TIMES),
    "sqrt(log t), a homogeneous network of two layers": np.sqrt(np.log(1 + TIMES)),
    "t^(1/4), of L = 1 / (2 w^2)": (4 * TIMES + 1) ** 0.25 - 1,
    "nearly t^(1/2)": TIMES**0.49,
}


@pytest.mark.parametrize("name", sorted(GROWS))
def test_growth_without_end_is_found(name):
    found, evidence = verdict(GROWS[name])
    assert found, evidence


ENDS = {
    "exponential approach": 1 - np.exp(-TIMES),
    "degenerate minimum, L = x^4": 1 - (1 + 2 * TIMES) ** -0.5,
    "flat minimum, L = x^8": 1 - (1 + 6 * TIMES) ** (-1 / 6),
    "slow escape from a saddle": 1e-9 * np.expm1(1e-6 * TIMES),
    "arrival after an escape": 1 / (1 + 1e4 * np.exp(-1e-4 * np.minimum(TIMES, 1e7))),
    "stands still": np.ones(len(TIMES)),
    "log t that has ended": np.log(1 + np.minimum(TIMES, 3e4)),
}


@pytest.mark.parametrize("name", sorted(ENDS))
def test_what_only_looks_like_it_is_not(name):
    found, evidence = verdict(ENDS[name])
    assert not found, evidence
    assert not str(evidence.why.values)


def test_a_loss_below_zero_may_fall_for_ever():
    """L = -w: w = t; with a loss that is bounded by 0 such a growth is a passage."""
    bounded = results_of(TIMES)
    unbounded = bounded.assign(final_loss=-bounded.final_loss - 1e6)
    assert not answers.divergence(bounded).diverging.any()
    assert answers.divergence(unbounded).diverging.all()
    faster = results_of(TIMES**1.2).assign(final_loss=unbounded.final_loss)
    assert not answers.divergence(faster).diverging.any()


def test_time_itself_says_that_it_is_log_t():
    """Commands read few records, and none of those by which a log-loss flow is known."""
    plain = results_of(TIMES)
    about = {"long_name": "log(1 + t), t the flow time"}
    assert not answers.divergence(plain).diverging.any()
    assert answers.divergence(
        plain.assign_coords(time=plain.time.assign_attrs(about))
    ).diverging.all()


def test_the_evidence_is_a_table():
    one = results_of(GROWS["log t"])
    table = answers.evidence(one)
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["runs"], row["degrees"], row["decades"]) == (1, "1", 3.0)
    assert abs(row["exponent, median"]) < 0.01
    assert answers.evidence(results_of(ENDS["stands still"])).empty


@pytest.mark.parametrize("name", ["degree", "exponent", "low"])
def test_an_axis_may_have_the_name_of_a_field(name):
    """As the degree of an edge law has, that varies."""
    one = results_of(ENDS["stands still"])
    both = xarray.concat([one, one], name).assign_coords({name: [1, 2]})
    found = answers.divergence(both)
    assert found.diverging.dims == both.final_loss.dims
    assert found[f"{name}_of_growth"].shape == both.final_loss.shape
    for value, part in both.groupby(name):
        assert name in answers.divergence(part.squeeze(name)), value


@pytest.mark.slow  # flows to t = 1e6, compiled for each loss
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ["linear", "cross-entropy", "log t late", "early", "converges"])
def test_flows_say_themselves_where_they_go(name, precision):
    x = jnp.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -0.5]])
    y = jnp.array([1.0, 1.0, -1.0, -1.0])
    # "log t late" hardly moves for e^9 units of time, and is found three decades later.
    losses = {
        "linear": lambda w: -w[0],
        "cross-entropy": lambda w: jnp.mean(
            jnp.logaddexp(0.0, -y.astype(w.dtype) * (x.astype(w.dtype) @ w))
        ),
        "log t late": lambda w: jnp.exp(-jnp.logaddexp(0.0, w[0] - 9.0)) + 1e-4 * w[1] ** 2,
        "early": lambda w: jnp.exp(-w[0]),
        "converges": lambda w: jnp.sum((w - 1.0) ** 2),
    }
    horizon = {"early": 10.0, "log t late": 1e8}.get(name, 1e7)
    run = solve(
        jnp.zeros(2), lambda w: losses[name](w), horizon, save=LogTimes(8, 0.1), rtol=1e-5,
        precision=precision,
    )  # fmt: skip
    found = answers.divergence(gather([(1, 0, run)])).isel(size=0, seed=0)
    wanted = name in ("linear", "cross-entropy", "log t late")
    assert bool(found.diverging) == wanted, found
    assert ("diverging" in repr(run)) == wanted
    assert ("no certificate" in run._repr_html_()) == wanted
    if name == "early":
        assert found.why.item() == "too few decades"


def test_what_was_not_recorded_is_said():
    data = results_of(np.log(1 + TIMES))
    missing = answers.divergence(data.drop_vars("distance")).isel(size=0, seed=0)
    assert not bool(missing.diverging)
    assert missing.why.item() == "no record of the distance"
    assert float(missing.decades) == 0
    short = answers.divergence(data.sel(time=slice(2e3, None))).isel(size=0, seed=0)
    assert short.why.item() == "too few decades"
    few = answers.divergence(data.isel(time=slice(None, None, 8))).isel(size=0, seed=0)
    assert few.why.item() == "too few records"


def test_only_those_that_are_asked_for_are_fitted():
    results = results_of(GROWS["log t"])
    none = answers.divergence(results, results.end_time < 0)
    assert not none.diverging.any()
    assert none.why.item() == "not asked"


def test_runs_with_records_at_other_times_are_fitted_apart():
    """A flow that ended early beside one that did not."""
    import xarray

    long, short = (results_of(GROWS["log t"]) for _ in range(2))
    short["distance"] = short.distance.where(short.time <= 1e4)
    both = xarray.concat([long, short.assign_coords(seed=[1])], "seed")
    together = answers.divergence(both)
    for k, one in enumerate((long, short)):
        alone = answers.divergence(one)
        for name in ("exponent", "low", "high", "degree", "decades", "diverging"):
            np.testing.assert_allclose(
                together[name].isel(seed=k).values.item(), alone[name].values.item(), rtol=1e-9
            )
