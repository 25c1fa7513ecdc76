"""The price of a compilation is learned apart from that of a run."""

import pytest

from flowlift.store import Entry, Rates, latest
from flowlift.studies.rows import Row

ROWS = [Row((), size, tuple(range(8)), tuple(f"{size}-{s}" for s in range(8))) for size in (8, 32)]
# A first run that compiles for 30 s, and others of a tenth of a second.
WHOLE, COMPILING = (30.1, 0.1, 0.1, 0.1), (30.0, 0.0, 0.0, 0.0)


def entry(row, seeds=range(4), **times):
    runs = tuple(row.runs[s] for s in seeds)
    seconds = times.get("seconds", (0.0,) * len(runs))
    found = [("horizon",) * len(runs), seconds, {}, ("",) * len(runs), 1]
    extra = {name: times[name] for name in ("whole", "compiling") if name in times}
    return Entry(f"{runs[0]}.nc", runs, row.size, tuple(seeds), *found, **extra)


def rates(*entries):
    return Rates(ROWS, latest(entries))


@pytest.mark.parametrize(
    "times",
    [{"whole": WHOLE, "compiling": COMPILING}, {"seconds": WHOLE}],
    ids=["said by the files", "older files"],
)
def test_one_compilation_is_charged_to_a_shape_and_not_to_every_run(times):
    known = rates(entry(ROWS[0], **times))
    assert known.seconds((), 8) == pytest.approx(0.1)
    assert known.compilation((), 8) == pytest.approx(30.0)
    # 96 further runs of this shape: 39.6 s, where a mean over runs would say 12 min.
    more = Row((), 8, tuple(range(96)), ())
    assert known.total([more]) == pytest.approx(30.0 + 96 * 0.1)
    halves = [Row((), 8, tuple(range(48)), ())] * 2
    assert known.total(halves) == pytest.approx(known.total([more]))


def test_a_shape_that_has_not_run_compiles_once_too():
    """Runs grow like the size, compilations do not: 4 x 0.1 s a run."""
    known = rates(entry(ROWS[0], whole=WHOLE, compiling=COMPILING))
    assert known.total(ROWS) == pytest.approx(30 + 8 * 0.1 + 30 + 8 * 0.4)


def test_cells_of_a_single_run_tell_them_apart_too():
    known = rates(
        entry(ROWS[0], range(1), whole=(30.1,), compiling=(30.0,)),
        entry(ROWS[0], range(1, 2), whole=(0.1,), compiling=(0.0,)),
        entry(ROWS[0], range(2, 3), seconds=(99.0,)),
    )
    assert known.seconds((), 8) == pytest.approx(0.1)
    assert known.compilation((), 8) == pytest.approx(30.0)


def test_without_anything_known_sizes_are_weights():
    nothing = rates()
    assert not nothing.known
    assert nothing.total(ROWS) == 8 * 8 + 8 * 32
    assert nothing.compilation((), 8) == 0.0
