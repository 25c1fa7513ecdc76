"""The time left, once a tenth of the cells is done, against studies that are played through.

Workers take cells in the master's order; a run takes a power of its size times noise, and the first
run of a shape compiles in each process, or loads what another one has compiled.
"""

import dataclasses
import datetime
import heapq
import math
import types

import numpy as np
import pytest

from flowlift import store
from flowlift.studies.grid import Cell
from flowlift.studies.rows import Row
from flowlift.sweep import progress
from flowlift.sweep.progress import Progress
from flowlift.sweep.run import in_order
from flowlift.sweep.under_way import UnderWay

# Seconds until workers have started; what 1970 is that long ago of.
_START, _DATE = 5.0, 1.7e9


@dataclasses.dataclass(frozen=True)
class Played:
    """A study; seconds of a run are (constant + n^exponent factor) exp(noise * normal)."""

    sizes: tuple[int, ...]
    seeds: int
    chunk: int
    workers: int
    exponent: float
    factor: float
    constant: float
    noise: float = 0.0
    compiling: float = 2.0
    loading: float = 0.2
    # How many masters share the cells, which this one does not know.
    masters: int = 1

    def cells(self):
        for n in self.sizes:
            for first in range(0, self.seeds, self.chunk):
                seeds = tuple(range(first, min(self.seeds, first + self.chunk)))
                yield Cell((), n, seeds, tuple(f"{n}-{s}" for s in seeds))

    def rows(self):
        seeds = tuple(range(self.seeds))
        return [Row((), n, seeds, tuple(f"{n}-{s}" for s in seeds)) for n in self.sizes]

    def seconds(self, size, draw):
        mean = self.constant + self.factor * size**self.exponent
        return mean * math.exp(self.noise * draw.standard_normal() - self.noise**2 / 2)

    def played(self, order, draw):
        """Cells with the times of their ends, and what the index says of them."""
        free = [(_START, w) for w in range(self.workers * self.masters)]
        compiled, in_process = {}, set()
        for cell in order:
            now, worker = heapq.heappop(free)
            whole, compiling = [], []
            for _ in cell.seeds:
                new = (worker, cell.size) not in in_process
                cached = compiled.get(cell.size, math.inf) <= now
                compiling.append(new * (self.loading if cached else self.compiling))
                whole.append(self.seconds(cell.size, draw) + compiling[-1])
                now += whole[-1]
                in_process.add((worker, cell.size))
                compiled.setdefault(cell.size, now)
            heapq.heappush(free, (now, worker))
            yield now, cell, _entry(cell, whole, compiling, now)


def _entry(cell, whole, compiling, now):
    count = len(cell.seeds)
    # Of all ends that of the first run is looked at: when it began.
    ends = [now - sum(whole[place + 1 :]) for place in range(count)]
    ended = [datetime.datetime.fromtimestamp(_DATE + e, datetime.UTC).isoformat() for e in ends]
    return store.Entry(
        f"{cell.name}.nc", cell.runs, cell.size, cell.seeds, ("horizon",) * count, tuple(whole), {},
        tuple(ended), 1, tuple(whole), tuple(compiling),
    )  # fmt: skip


@pytest.fixture
def ratio(monkeypatch):
    """Of a played study: the time left that is said at a share of the cells, over what it was."""

    def said(study, draw, share=0.1):
        clock = type("Clock", (), {"now": 0.0, "monotonic": lambda self: self.now})()
        date = datetime.datetime.fromtimestamp(_DATE, datetime.UTC)
        now = type("Date", (), {"now": staticmethod(lambda zone: date)})
        monkeypatch.setattr(progress, "time", clock)
        fixed = types.SimpleNamespace(datetime=now, UTC=datetime.UTC)
        monkeypatch.setattr(progress, "datetime", fixed)
        rows, entries = study.rows(), []
        learned = lambda: store.Rates(rows, store.latest(entries))
        order = in_order(study.cells(), learned().of_cell)
        ends = sorted(study.played(order, draw), key=lambda found: found[0])
        manner = {"shown": True, "learn": learned, "workers": study.workers}
        with Progress(order, learned(), **manner) as bar:
            for end, cell, entry in ends[: math.ceil(share * len(order))]:
                clock.now = end
                entries.append(entry)
                bar.finish(cell)
            return bar.seconds_left() / (ends[-1][0] - end)

    return said


SIZES = (8, 16, 32, 64)
EXACT = Played(SIZES, 40, 4, 1, 1.5, 1e-3, 0.0)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_without_noise_it_is_exact_but_for_loading(ratio, workers, exponent):
    """Each further process loads each shape once, which the forecast leaves out."""
    study = dataclasses.replace(EXACT, workers=workers, exponent=exponent, factor=0.3)
    assert ratio(study, np.random.default_rng(0)) == pytest.approx(1.0, abs=0.05)


def test_other_masters_on_the_folder_are_accounted_for(ratio):
    """Twice as many workers as this one has: the pace tells, though not at a tenth of the cells."""
    study = dataclasses.replace(EXACT, workers=2, factor=0.3, masters=2)
    assert 1 / 1.5 < ratio(study, np.random.default_rng(0), 0.5) < 1.5


def test_a_long_cell_that_nobody_shares_is_waited_for():
    """Two workers; 10 s are over, with a cell of 10 s: of 100 s 90 are left, not half of 100."""
    shapes = ((100, 0), (10, 0), (10, 1))
    long, first, second = (Cell((), n, (s,), (f"{n}-{s}",)) for n, s in shapes)
    rows = [Row((), 10, (0, 1), ("10-0", "10-1")), Row((), 100, (0,), ("100-0",))]
    known = store.Rates(rows, store.latest([_entry(first, [10.0], [0.0], 10.0)]))
    under_way = UnderWay([long, first, second], 2)
    under_way.finish(first, 10.0)
    assert under_way.left(known, 10.0) == pytest.approx(90.0)
    under_way.finish(second, 20.0)
    assert under_way.left(known, 20.0) == pytest.approx(80.0)
    under_way.finish(long, 100.0)
    assert under_way.left(known, 100.0) is None


# Of a hundred studies in all, some of a few hundred cells.
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_uneven_studies_are_forecast_within_a_factor_of_one_and_a_half(ratio, seed):
    """40 random studies: at most one in twenty may miss, and the median is right."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(40):
        count = int(draw.integers(3, 11))
        sizes = np.unique((8 * 2 ** (draw.uniform(0.5, 1.2) * np.arange(count))).astype(int))
        chunk = int(draw.choice([2, 4, 20]))
        # 25 cells or more: a tenth of fewer are one or two, which tell little of other sizes.
        least = math.ceil(25 / len(sizes)) * chunk
        study = Played(
            sizes=tuple(map(int, sizes)), seeds=max(least, int(draw.choice([20, 50, 100]))),
            chunk=chunk, workers=int(draw.choice([1, 2, 4])), exponent=draw.uniform(0, 2),
            factor=10 ** draw.uniform(-4, -2), constant=10 ** draw.uniform(-2, -0.5),
            noise=draw.uniform(0.05, 0.5), compiling=10 ** draw.uniform(-0.3, 0.7),
        )  # fmt: skip
        found.append(ratio(study, draw))
    found = np.array(found)
    missed = found[(found > 1.5) | (found < 1 / 1.5)]
    assert len(missed) <= 2, missed
    assert 0.9 < np.median(found) < 1.1
