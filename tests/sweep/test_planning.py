"""Planning takes as long as the grid is large, and no longer: counted, not timed."""

import tomllib

import pytest
from study_text import TEXT

from flowlift import store
from flowlift.studies import toml
from flowlift.studies.grid import Cell, cells, rows
from flowlift.sweep import checking, estimate, progress, run
from flowlift.sweep.progress import Progress

AXES = """
[vary]
"flow.rtol" = [{}]
[alternatives.frozen-or-not]
all = {{ frozen = [] }}
some = {{ frozen = ["h1->h2"] }}
"""


def study_of(points):
    text = ", ".join(str(1e-3 / (i + 1)) for i in range(points))
    return toml.structure_study(tomllib.loads(TEXT + AXES.format(text)))


@pytest.fixture
def made(monkeypatch):
    """How many studies have been made."""
    count = []

    def counted(raw, **options):
        count.append(1)
        return structured(raw, **options)

    structured = toml.structure_study
    monkeypatch.setattr(toml, "structure_study", counted)
    return count


def test_each_combination_is_a_study_a_few_times(made, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "run_cells", lambda *_, **__: None)
    # What they build takes long, and once for both: the axes are of the flow and of what is frozen.
    built = []
    monkeypatch.setattr(checking, "_check_models", lambda *_: built.append(1))
    monkeypatch.setattr(estimate, "_parameters_and_bytes", lambda *_: built.append(1) or (1, 1))
    counts = []
    for points in (2, 4, 8):
        study = study_of(points)
        made.clear()
        run.complete_study(study, tmp_path / str(points), progress=True)
        counts.append(len(made))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
    # Sized, checked, listed, its memory estimated.
    assert counts[0] <= 4 * 4
    assert len(built) == 3 * (2 + 2)


def test_a_study_is_narrowed_to_each_of_its_combinations():
    study = study_of(3)
    for point, variant in toml.variants(study):
        assert list(toml.variants(toml.narrowed(study, point))) == [(point, variant)]
    for cell in cells(study):
        assert cell in list(cells(toml.narrowed(study, dict(cell.variant))))


def test_a_plan_that_is_known_gives_the_same_cells():
    study = study_of(2)
    assert list(cells(study, plan=list(rows(study)))) == list(cells(study))
    some = {next(cells(study)).runs[0]}
    assert list(cells(study, some, (1, 2), plan=rows(study))) == list(cells(study, some, (1, 2)))


def test_what_is_left_takes_a_share_of_the_time_however_many_cells_there_are(monkeypatch, capsys):
    """A look that takes 0.1 s is not taken after each of a hundred cells of 1 s."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock, looks = Clock(), []

    class Slow(store.Rates):
        def first_begin(self, since):
            clock.now += 0.1
            looks.append(clock.now)

    monkeypatch.setattr(progress, "time", clock)
    many, learned = [Cell((), 4, (i,), (f"{i:016x}",)) for i in range(100)], Slow([], {})
    with Progress(many, learned, shown=True, learn=lambda: learned) as bar:
        for cell in many:
            clock.now += 1.0
            bar.finish(cell)
    assert 15 <= len(looks) <= 20
    assert capsys.readouterr().out.splitlines()[-1].endswith("100 of 100 cells")
