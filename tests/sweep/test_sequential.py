"""Sequential designs: which size gets seeds, when they stop, what intervals then cover."""

import dataclasses
import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import xarray
from scipy import stats
from study_text import TEXT, TINY

from flowlift import answers, store, studies, sweep
from flowlift.answers.learning import exact_interval
from flowlift.sweep import sequential


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(TEXT + "\n[question]\nlosses = [0.2]\n")
    return dataclasses.replace(studies.read_study(path), seeds=10, chunk=4)


class Coins:
    """Instead of flows: seed s of size n succeeds if s mod 10 lies below ten times P(n).

    It stands for whatever computes, stores and reads runs.
    """

    def __init__(self, probability):
        self.probability, self.stored, self.looks, self.written = probability, {}, [], None

    def complete_study(self, study, directory, **options):
        for cell in studies.cells(study):
            self.stored |= dict.fromkeys(cell.runs, cell.size)

    def run_cells(self, study, missing, directory, rates, executor, manner, *, progress, on_cell):
        self.looks.append([(cell.size, seed) for cell in missing for seed in cell.seeds])
        assert all(len(cell.seeds) <= study.seeds_a_cell for cell in missing)
        for cell in missing:
            self.stored |= dict.fromkeys(cell.runs, cell.size)
        return rates

    def watch(self, directory):
        return SimpleNamespace(stored=lambda runs: self.stored.keys() & set(runs))

    def load(self, directory, study):
        return self.load_cells(directory, study, list(studies.cells(study)))

    def load_cells(self, directory, study, wanted, **_):
        sizes = sorted({cell.size for cell in wanted})
        seeds = sorted({seed for cell in wanted for seed in cell.seeds})
        final = np.full((len(sizes), len(seeds)), np.nan)
        names = np.full(final.shape, "", "U16")
        if not any(self.stored.keys() & set(cell.runs) for cell in wanted):
            raise store.NothingStored("nothing")
        for cell in wanted:
            for seed, run in zip(cell.seeds, cell.runs, strict=True):
                if run not in self.stored:
                    continue
                names[sizes.index(cell.size), seeds.index(seed)] = run
                success = seed % 10 < 10 * self.probability[cell.size]
                final[sizes.index(cell.size), seeds.index(seed)] = 0.01 if success else 0.9
        dims, there = ("size", "seed"), np.isfinite(final)
        return xarray.Dataset(
            {
                "loss": ((*dims, "time"), np.stack([np.where(there, 1.0, np.nan), final], -1)),
                "final_loss": (dims, final),
                "run": (dims, names),
                "end_time": (dims, np.where(there, 1.0, np.nan)),
                "result": (dims, np.where(there, "horizon", "")),
            },
            coords={"size": sizes, "seed": seeds, "time": [0.0, 1.0]},
        )

    @property
    def counts(self):
        return Counter(self.stored.values())


@pytest.fixture
def coins(monkeypatch):
    coins = Coins({4: 0.5, 8: 1.0})
    for name in ("complete_study", "run_cells", "load", "load_cells"):
        monkeypatch.setattr(sequential, name, getattr(coins, name))
    monkeypatch.setattr(sequential, "Watch", coins.watch)
    monkeypatch.setattr(sequential, "write_study", lambda s, d: setattr(coins, "written", s))
    return coins


def half_width(k, n):
    low, high = exact_interval([k], [n], 0.95)
    return (high[0] - low[0]) / 2


def test_seeds_are_added_until_all_intervals_are_narrow(study, coins, tmp_path):
    spent = sweep.run_until(study, tmp_path, half_width=0.16, budget_runs=1000, progress=False)
    # 10 of 10 is +-0.154, narrow from the start; 5 of 10 is +-0.31 and goes up by max(4, 1/4).
    looks = [10]
    while half_width(looks[-1] // 10 * 5 + min(looks[-1] % 10, 5), looks[-1]) > 0.16:
        looks.append(looks[-1] + max(4, looks[-1] // 4))
    new = itertools.pairwise(looks)
    assert coins.looks == [[(4, seed) for seed in range(*pair)] for pair in new]
    assert spent.runs == looks[-1] + 10
    assert spent.widest <= 0.16
    assert coins.written.seeds == looks[-1]


def test_all_that_are_too_wide_get_seeds_at_one_look(study, coins, tmp_path):
    """So that workers have the cells of all of them; each stops by its own results alone."""
    sweep.run_until(study, tmp_path, half_width=0.1, budget_runs=1000, progress=False)
    now, successes = {4: 10, 8: 10}, {4: lambda n: n // 10 * 5 + min(n % 10, 5), 8: lambda n: n}
    for look in coins.looks:
        wide = {n for n in now if half_width(successes[n](now[n]), now[n]) > 0.1}
        assert {size for size, _ in look} == wide
        for n in wide:
            more = [seed for size, seed in look if size == n]
            assert more == list(range(now[n], sequential.next_count(now[n], study.seeds_a_cell)))
            now[n] += len(more)
    assert all(half_width(successes[n](now[n]), now[n]) <= 0.1 for n in now)


def test_a_design_goes_on_where_it_was_interrupted(study, coins, tmp_path, monkeypatch):
    """With runs stored beyond its own looks too: they are not seen before they are asked for."""
    options = {"half_width": 0.1, "budget_runs": 1000, "progress": False}
    whole = sweep.run_until(study, tmp_path, **options)
    looks, everything = coins.looks, dict(coins.stored)
    assert len(looks) > 3
    sweep.run_until(study, tmp_path, **options)
    assert coins.looks == looks
    # What the first looks had computed, and some runs of the last one.
    kept = {(size, seed) for look in looks[:2] for size, seed in look} | set(looks[-1][::3])
    coins.stored.clear()
    coins.complete_study(study, tmp_path)
    for cell in studies.cells(dataclasses.replace(study, seeds=200, chunk=1)):
        if (cell.size, cell.seeds[0]) in kept:
            coins.stored[cell.runs[0]] = cell.size
    coins.looks = []
    again = sweep.run_until(study, tmp_path, **options)
    assert (again.runs, again.widest) == (whole.runs, whole.widest)
    computed = [run for look in coins.looks for run in look]
    assert sorted(computed) == sorted({r for look in looks for r in look} - kept)
    assert coins.stored == everything


def test_the_budget_ends_it_exactly_and_serves_the_widest_first(study, coins, tmp_path):
    spent = sweep.run_until(study, tmp_path, half_width=0.01, budget_runs=57, progress=False)
    assert spent.runs == 57 == len(coins.stored)
    assert spent.widest > 0.01
    # Looks at 10, 14, 18, 22: then 13 are left, 5 for the wider one, of P = 1/2, and so on.
    assert coins.counts[4] >= coins.counts[8]


def test_an_index_that_cannot_be_written_holds_no_design_up(study, coins, tmp_path, monkeypatch):
    """It says of no run that it is stored; the files do."""
    options = {"half_width": 0.16, "budget_runs": 1000, "progress": False}
    whole = sweep.run_until(study, tmp_path, **options)
    silent = SimpleNamespace(stored=lambda runs: set())
    monkeypatch.setattr(sequential, "Watch", lambda directory: silent)
    again = sweep.run_until(study, tmp_path, **options)
    assert (again.runs, again.widest) == (whole.runs, whole.widest)


def test_what_reading_finds_damaged_is_computed_again(study, coins, tmp_path, monkeypatch):
    """A file is set aside as it is read: its runs count as missing again."""
    damaged = []

    def load_cells(directory, study, wanted, **_):
        if not damaged:
            damaged.extend(wanted[0].runs)
            for run in damaged:
                del coins.stored[run]
        return coins.load_cells(directory, study, wanted)

    monkeypatch.setattr(sequential, "load_cells", load_cells)
    sweep.run_until(study, tmp_path, half_width=0.16, budget_runs=1000, progress=False)
    assert coins.looks[0] == [(4, seed) for seed in range(4)]
    assert coins.stored.keys() >= set(damaged)


def test_without_a_question_or_a_sensible_aim_it_is_refused(study, tmp_path):
    silent = dataclasses.replace(study, question=None)
    with pytest.raises(ValueError, match=r"must have a table \[question\]"):
        sweep.run_until(silent, tmp_path, half_width=0.1, budget_runs=100)
    with pytest.raises(ValueError, match=r"`half_width` must lie between 0 and 1/2, but is 0\.7"):
        sweep.run_until(study, tmp_path, half_width=0.7, budget_runs=100)
    with pytest.raises(ValueError, match="`budget_runs` must be at least 20"):
        sweep.run_until(study, tmp_path, half_width=0.1, budget_runs=19)
    fewer = dataclasses.replace(study, seeds_at_most={"8": 5})
    with pytest.raises(ValueError, match="must leave the number of seeds at each variant and size"):
        sweep.run_until(fewer, tmp_path, half_width=0.1, budget_runs=100)


# Two designs of real flows; what they decide is tested with made-up ones.
@pytest.mark.slow
def test_along_axes_each_variant_stops_by_itself(tmp_path):
    """Real flows; the horizon decides: all, some and none of the flows meet the loss."""
    path = tmp_path / "axes.toml"
    path.write_text(TINY + "\n[question]\nlosses = [0.3]\n")
    horizons = {"a": {"flow.horizon": 60.0}, "b": {"flow.horizon": 3.0}}
    axes = {"alternatives": {"watch": horizons}, "vary": {"flow.rtol": [1e-3, 1e-2]}}
    study = dataclasses.replace(studies.read_study(path), seeds=4, **axes)
    spent = sweep.run_until(study, tmp_path / "r", half_width=0.3, budget_runs=60, progress=False)
    table = answers.success_probability(spent.results, 0.3)
    assert len(table) == 4
    assert table["runs"].sum() == spent.runs == len(store.cells.finished(tmp_path / "r"))
    assert ((table["high"] - table["low"]) / 2).max() == pytest.approx(spent.widest)
    assert spent.widest <= 0.3
    # The same runs with each variant designed alone.
    alone = dataclasses.replace(study, alternatives={"watch": {"a": horizons["a"]}})
    other = sweep.run_until(alone, tmp_path / "a", half_width=0.3, budget_runs=60, progress=False)
    found = answers.success_probability(other.results, 0.3)["runs"]
    assert found.tolist() == table["runs"][table.index.get_level_values("watch") == "a"].tolist()


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
