"""What a study will take is said once, as soon as something is known."""

import pytest

from flowlift import store
from flowlift.studies.grid import Cell
from flowlift.studies.rows import Row
from flowlift.sweep.progress import Progress

CELLS = [Cell((), size, (0, 1), (f"{size}a", f"{size}b")) for size in (8, 16, 32)]


def rates(seconds):
    """As if the runs of n = 16 had taken so long each."""
    rows = [Row((), cell.size, cell.seeds, cell.runs) for cell in CELLS]
    runs = CELLS[1].runs
    entry = store.Entry(
        "a.nc", runs, 16, (0, 1), ("horizon",) * 2, (seconds,) * 2, {}, ("",) * 2, 1
    )
    return store.Rates(rows, store.latest([entry]) if seconds else {})


def told(capsys, cells, before, after):
    calls = []
    with Progress(cells, before, shown=True, learn=lambda: calls.append(1) or after) as bar:
        for cell in cells:
            bar.finish(cell)
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("After the first")]
    return lines, len(calls)


def test_the_first_cell_tells_what_all_will_take(capsys):
    """With one known size seconds grow like n: 2 (5 + 10 + 20) = 70."""
    lines, calls = told(capsys, CELLS, rates(0.0), rates(10.0))
    assert len(lines) == calls == 1
    assert f"all 3 will take about {store.duration(70.0)} of one worker" in lines[0]


@pytest.mark.parametrize(
    ("cells", "before", "after", "asked"),
    [(CELLS, 10.0, 10.0, 0), (CELLS[:1], 0.0, 10.0, 0), (CELLS, 0.0, 0.0, 3)],
    ids=["known beforehand", "nothing left", "never known"],
)
def test_nothing_is_said_twice_or_made_up(capsys, cells, before, after, asked):
    assert told(capsys, cells, rates(before), rates(after)) == ([], asked)
