"""What a store knows of itself without opening its data."""

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from typing import NoReturn

import pytest

from flowlift import store
from flowlift.store.names import CELLS, CLAIMS, INDEX
from flowlift.studies.rows import Row

claims_module = importlib.import_module("flowlift.store.claims")
SIZES, SEEDS, CHUNK = (16, 32, 64, 128, 256), 2000, 4


def entry(runs, size, seeds, result="horizon", seconds=1.0, file=None, reason=""):
    return store.Entry(
        file=file or f"{runs[0]}.nc",
        runs=tuple(runs),
        size=size,
        seeds=tuple(seeds),
        results=(result,) * len(runs),
        seconds=(seconds,) * len(runs),
        reasons=dict.fromkeys(runs, reason) if reason else {},
        ended=("2026-01-01T00:00:00+00:00",) * len(runs),
        bytes=0,
    )


def a_store(folder, rows, entries):
    (folder / CELLS).mkdir(parents=True)
    store.write_plan(folder, "synthetic", rows)
    for found in entries:
        (folder / CELLS / found.file).touch()
        store.append(folder, found)


def rows(sizes, seeds):
    names = {n: [f"{n:08x}{s:08x}" for s in range(seeds)] for n in sizes}
    return [Row((), n, tuple(range(seeds)), tuple(names[n])) for n in sizes]


def refused(directory) -> NoReturn:
    raise AssertionError("the data were read")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """10,000 runs, all done but the last size's second half; each tenth cell failed."""
    folder = tmp_path_factory.mktemp("large")
    plan, entries = rows(SIZES, SEEDS), []
    for row in plan:
        seeds = SEEDS // 2 if row.size == SIZES[-1] else SEEDS
        for first in range(0, seeds, CHUNK):
            part = slice(first, first + CHUNK)
            failed = first % (10 * CHUNK) == 0
            end = {"result": "step limit", "reason": "It took too long."} if failed else {}
            seconds = row.size / 16
            entries.append(entry(row.runs[part], row.size, row.seeds[part], seconds=seconds, **end))
    a_store(folder, plan, entries)
    return folder


def test_a_status_of_ten_thousand_runs_opens_a_handful_of_files(large):
    opened = []

    def watch(event, arguments):
        if event == "open" and opened is not None and str(arguments[0]).startswith(str(large)):
            opened.append(os.path.relpath(arguments[0], large))

    sys.addaudithook(watch)
    found = store.status(large, refused)
    seen, opened = opened, None
    assert 2 <= len(seen) <= 4
    assert not [name for name in seen if name.startswith(CELLS)]
    assert (found.runs, found.done, found.missing) == (10_000, 9_000, 1_000)
    assert found.results == {"horizon": 8_100, "step limit": 900}
    assert len(found.failed) == 900
    assert found.failed[0].reason == "It took too long."
    assert found.seconds_left == pytest.approx(1_000 * 256 / 16)


def test_status_imports_nothing_heavy(large, tmp_path):
    code = f"from flowlift.cli import main; main(['status', {str(large)!r}]); import sys; "
    code += "print('LOADED', *[m for m in ('jax', 'xarray', 'scipy', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    text, _, loaded = done.stdout.rpartition("LOADED")
    assert loaded.split() == []
    assert "done     9000 (8100 horizon, 900 step limit)" in text
    assert "n = 256: 1000 of 2000" in text
    assert "... and 880 more failures" in text


def test_lines_that_are_torn_old_or_stale_say_nothing(tmp_path):
    (row,) = rows([8], 6)
    cells = [entry(row.runs[i : i + 2], 8, (i, i + 1)) for i in (0, 2, 4)]
    a_store(tmp_path, [row], cells[:1])
    for found in cells[1:]:
        (tmp_path / CELLS / found.file).touch()
    old = json.dumps({"file": cells[1].file, "runs": cells[1].runs})
    torn = json.dumps({"file": cells[2].file})[:-4]
    (tmp_path / INDEX / "other.jsonl").write_text(f"{old}\n{torn}")
    known = store.read_index(tmp_path)
    assert set(known) == {cells[0].file}
    assert [p.name for p in store.unread(tmp_path, known)] == [c.file for c in cells[1:]]
    # A file that is not what its line says: replaced since, or torn.
    (tmp_path / CELLS / cells[0].file).write_text("x")
    assert store.read_index(tmp_path) == {}
    asked = []
    found = store.status(tmp_path, lambda folder: asked.append(folder) or ({}, None))
    assert asked == [tmp_path]
    assert found.missing == 6


def test_what_counts_of_a_run_that_several_files_hold():
    failed = entry(["a"], 8, [0], file="z.nc", reason="NaN")
    good = entry(["a"], 8, [0], file="b.nc")
    later = entry(["a"], 8, [0], file="a.nc")
    later = store.Entry(**{**vars(later), "ended": ("2027-01-01T00:00:00+00:00",)})
    assert store.latest([failed, good])["a"][0] is good
    assert store.latest([good, failed])["a"][0] is good
    assert store.latest([later, good])["a"][0] is later
    assert store.latest([good, later])["a"][0] is later


def test_claims_of_the_living_are_running_and_those_of_the_dead_are_not(tmp_path):
    (row,) = rows([8], 4)
    a_store(tmp_path, [row], [entry(row.runs[:1], 8, [0], seconds=3.0)])
    with store.Holder(tmp_path, row.runs[:2], 8) as holder:
        holder.begin(row.runs[1], 1)
        holder.know({"edges": 5})
        found = store.status(tmp_path, refused)
        assert [(c.run, c.seed, c.facts) for c in found.running] == [(row.runs[1], 1, {"edges": 5})]
        assert (found.done, found.missing) == (1, 2)
        assert found.seconds_left == pytest.approx(9.0)
        (path,) = (tmp_path / CLAIMS).glob("*.json")
        record = json.loads(path.read_text())
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        (tmp_path / CLAIMS / "dead.json").write_text(json.dumps(record | {"process": dead.pid}))
        (tmp_path / CLAIMS / "silent.json").write_text(json.dumps(record | {"host": "elsewhere"}))
        past = time.time() - 10 * claims_module.SILENCE
        os.utime(tmp_path / CLAIMS / "silent.json", (past, past))
        (tmp_path / CLAIMS / "torn.json").write_text("{")
        assert len(store.status(tmp_path, refused).running) == 1
        cleared = store.clear_dead(tmp_path)
        assert {c.path.name for c in cleared} == {"dead.json", "silent.json"}
    assert [c.path.name for c in store.claims(tmp_path)] == []


def test_a_heart_beats_while_a_claim_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "BEAT", 0.01)
    beaten, original = threading.Event(), os.utime

    def beat(*arguments):
        beaten.set()
        return original(*arguments)

    monkeypatch.setattr(os, "utime", beat)
    with store.Holder(tmp_path, ("a",), 8):
        assert beaten.wait(10)


def test_expected_seconds_follow_a_power_law():
    plan = rows([8, 16, 64], 2)
    done = [entry(row.runs, row.size, row.seeds, seconds=row.size**1.5) for row in plan[:2]]
    rates = store.Rates(plan, store.latest(done))
    assert rates.seconds((), 16) == pytest.approx(64.0)
    assert rates.seconds((), 64) == pytest.approx(64.0**1.5)
    one = store.Rates(plan, store.latest(done[:1]))
    assert one.seconds((), 16) == pytest.approx(2 * 8**1.5)
    nothing = store.Rates(plan, {})
    assert not nothing.known
    assert nothing.seconds((), 16) == 16.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12600, "3.5 h"), (180000, "2.1 days")]
)
def test_durations_are_words(seconds, text):
    assert store.duration(seconds) == text


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no study; run the study first"):
        store.status(tmp_path, lambda directory: None)
