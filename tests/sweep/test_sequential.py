"""Sequential designs: which size gets seeds, when they stop, what intervals then cover."""

import dataclasses

import numpy as np
import pytest
import xarray
from scipy import stats
from study_text import TEXT

from flowlift import studies, sweep
from flowlift.answers.learning import exact_interval
from flowlift.sweep import sequential


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(TEXT + "\n[question]\nlosses = [0.2]\n")
    return dataclasses.replace(studies.read_study(path), seeds=10, chunk=4)


class Coins:
    """Instead of flows: seed s of size n succeeds if s mod 10 lies below ten times P(n)."""

    def __init__(self, probability):
        self.probability, self.calls, self.written = probability, [], None

    def run(self, study, directory, **options):
        (size, *others) = study.lift.sizes
        if not others:
            self.calls.append((size, study.seeds))
        return self.results(study)

    def load(self, directory, study):
        return self.results(study)

    def results(self, study):
        p = np.array([self.probability[n] for n in study.lift.sizes])
        success = (np.arange(study.seeds) % 10) < 10 * p[:, None]
        final = np.where(success, 0.01, 0.9)
        dims = ("size", "seed")
        return xarray.Dataset(
            {
                "loss": ((*dims, "time"), np.stack([np.ones_like(final), final], -1)),
                "final_loss": (dims, final),
                "end_time": (dims, np.ones_like(final)),
                "result": (dims, np.full(final.shape, "horizon")),
            },
            coords={
                "size": list(study.lift.sizes),
                "seed": np.arange(study.seeds),
                "time": [0.0, 1.0],
            },
        )


@pytest.fixture
def coins(monkeypatch):
    coins = Coins({4: 0.5, 8: 1.0})
    monkeypatch.setattr(sequential, "run_study", coins.run)
    monkeypatch.setattr(sequential, "load", coins.load)
    monkeypatch.setattr(sequential, "write_study", lambda s, d: setattr(coins, "written", s))
    return coins


def half_width(k, n):
    low, high = exact_interval([k], [n], 0.95)
    return (high[0] - low[0]) / 2


def test_seeds_go_where_the_interval_is_widest_until_all_are_narrow(study, coins, tmp_path):
    spent = sweep.run_until(study, tmp_path, half_width=0.16, budget_runs=1000)
    # 10 of 10 is +-0.154, narrow from the start; 5 of 10 is +-0.31 and goes up by max(4, 1/4).
    looks = [10]
    while half_width(looks[-1] // 10 * 5 + min(looks[-1] % 10, 5), looks[-1]) > 0.16:
        looks.append(looks[-1] + max(4, looks[-1] // 4))
    assert coins.calls == [(4, n) for n in looks[1:]]
    assert spent.runs == looks[-1] + 10
    assert spent.widest <= 0.16
    assert coins.written.seeds == looks[-1]


def test_the_wider_of_two_is_taken_each_time(study, coins, tmp_path):
    sweep.run_until(study, tmp_path, half_width=0.1, budget_runs=1000)
    now = {4: 10, 8: 10}
    successes = {4: lambda n: n // 10 * 5 + min(n % 10, 5), 8: lambda n: n}
    for size, seeds in coins.calls:
        widths = {n: half_width(successes[n](now[n]), now[n]) for n in now}
        assert widths[size] == max(widths.values()) > 0.1
        now[size] = seeds
    assert {size for size, _ in coins.calls} == {4, 8}


def test_the_budget_ends_it_exactly(study, coins, tmp_path):
    spent = sweep.run_until(study, tmp_path, half_width=0.01, budget_runs=57)
    assert spent.runs == 57
    assert spent.widest > 0.01


def test_without_a_question_or_a_sensible_aim_it_is_refused(study, tmp_path):
    silent = dataclasses.replace(study, question=None)
    with pytest.raises(ValueError, match=r"must have a table \[question\]"):
        sweep.run_until(silent, tmp_path, half_width=0.1, budget_runs=100)
    with pytest.raises(ValueError, match=r"`half_width` must lie between 0 and 1/2, but is 0\.7"):
        sweep.run_until(study, tmp_path, half_width=0.7, budget_runs=100)
    with pytest.raises(ValueError, match="`budget_runs` must be at least 20"):
        sweep.run_until(study, tmp_path, half_width=0.1, budget_runs=19)
    fewer = dataclasses.replace(study, seeds_at_most={"8": 5})
    with pytest.raises(ValueError, match="must leave the number of seeds at each size"):
        sweep.run_until(fewer, tmp_path, half_width=0.1, budget_runs=100)


def test_coverage_after_stopping_is_that_of_a_fixed_number_where_one_look_suffices():
    n = 50
    low, high = exact_interval(np.arange(n + 1), np.full(n + 1, n), 0.95)
    p = np.arange(1, 400)[:, None] / 400
    weights = stats.binom.pmf(np.arange(n + 1), n, p) * ((low <= p) & (p <= high))
    found = sweep.coverage_after_stopping(0.2, first=n, chunk=4)
    assert found == pytest.approx(weights.sum(axis=1).min(), abs=1e-9)
    assert found >= 0.95


def test_coverage_after_stopping_is_what_simulation_gives():
    """At p = 0.5 and p = 0.9 no simulated coverage falls below the least one."""
    least = sweep.coverage_after_stopping(0.12, first=10, chunk=4)
    assert 0.9 < least < 0.97
    rng = np.random.default_rng(5)
    for p in (0.5, 0.9):
        covered = [_sample(rng, p) for _ in range(400)]
        assert np.mean(covered) > least - 3 * np.sqrt(least * (1 - least) / 400)


def _sample(rng, p):
    k, n = rng.binomial(10, p), 10
    while half_width(k, n) > 0.12:
        more = sequential.next_count(n, 4) - n
        k, n = k + rng.binomial(more, p), n + more
    low, high = exact_interval([k], [n], 0.95)
    return low[0] <= p <= high[0]
