"""Compiled programs are kept on disk: where, how much, and what the next process does with them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowlift import compilations
from flowlift.cli import main

# Of the tests' own settings, those that decide here.
_DECIDING = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


def python(code: str, **settings: str) -> str:
    """What a fresh process prints that has none of the tests' settings of what is kept."""
    left = {k: v for k, v in os.environ.items() if k not in (*_DECIDING, "EQX_ON_ERROR")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=left | settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


_FLOW = """
from collections import Counter
import json
import jax
counts = Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event]))
from flowlift import FixedInDegree, modules, sample, solve, tasks
lift = sample(modules.mlp(inputs=2, depth=1), copies=4, edges=FixedInDegree(2), seed=0)
solution = solve(lift, tasks.periodic({1: 1.0}, samples=8), horizon=1.0, solver=SOLVER)
names = ("compile_requests_use_cache", "cache_hits", "cache_misses")
print(json.dumps([counts[f"/jax/compilation_cache/{name}"] for name in names]))
print(solution.loss.tolist(), solution.stats.gradients, solution.stats.hvps)
"""


@pytest.mark.slow  # two processes a row
@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bdf", "rkc2", "kvaerno5")),
    ],
)
def test_a_second_process_compiles_nothing(solver, tmp_path):
    code, told = _FLOW.replace("SOLVER", repr(solver)), {"FLOWLIFT_CACHE": str(tmp_path / "kept")}
    first, *results = python(code, **told).splitlines()
    second, *again = python(code, **told).splitlines()
    asked, read, kept = json.loads(first)
    # Every program can be kept: none calls back into Python.
    assert asked == read + kept > read
    assert json.loads(second) == [asked, asked, 0]
    # The same program is run, whoever compiled it.
    assert again == results
    assert compilations.contents(tmp_path / "kept").programs == kept


_SETTINGS = """
import os, stat, sys, warnings
import flowlift, jax
from flowlift import compilations as c

# Importing decides nothing.
flowlift.solve, flowlift.sample
assert jax.config.jax_compilation_cache_dir is None

def asked(**settings):
    c._kept.cache_clear()
    for name, value in settings.items():
        jax.config.update(f"jax_{name}", value)
    before = dict(jax.config.values)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        place = c.keep_compilations()
        assert c.keep_compilations() is place
    changed = {k for k, v in jax.config.values.items() if before[k] != v}
    return place, changed, [str(w.message) for w in said]

tmp = os.environ["PLACE"]
own, changed, said = asked(compilation_cache_dir=tmp + "/own")
assert (own.folder, changed, said) == (None, set(), []) and "own" in own.why
off, changed, said = asked(compilation_cache_dir=None, enable_compilation_cache=False)
assert (off.folder, changed, said) == (None, set(), [])
jax.config.update("jax_enable_compilation_cache", True)

os.environ["FLOWLIFT_CACHE"] = "off"
off, changed, said = asked()
assert (off.folder, off.wrong, changed, said) == (None, False, set(), [])

os.mkdir(tmp + "/open")
os.chmod(tmp + "/open", 0o777)
os.environ["FLOWLIFT_CACHE"] = tmp + "/open"
unsafe, changed, said = asked()
assert (unsafe.folder, unsafe.wrong, changed, len(said)) == (None, True, set(), 1)
assert "others may write" in said[0] and "FLOWLIFT_CACHE" in said[0]

del os.environ["FLOWLIFT_CACHE"]
os.environ["XDG_CACHE_HOME"] = tmp + "/cache"
kept, changed, said = asked(persistent_cache_min_compile_time_secs=0.25)
assert changed == {"jax_compilation_cache_dir"} and said == []
assert str(kept.folder) == jax.config.jax_compilation_cache_dir
kept, changed, said = asked(compilation_cache_dir=None, persistent_cache_min_compile_time_secs=1.0)
assert changed == {"jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"}
if sys.platform == "linux":
    assert str(kept.root).startswith(tmp + "/cache/flowlift")
for folder in (kept.root, kept.folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
print("all held")
"""


def test_the_users_settings_are_left_alone(tmp_path):
    # The assertions are made where nothing has been set yet, in a process of its own.
    assert python(_SETTINGS, PLACE=str(tmp_path)) == "all held\n"


def test_what_others_could_write_is_not_used(tmp_path, monkeypatch):
    good = compilations.usable(tmp_path / "a" / "b")
    assert good.folder == tmp_path / "a" / "b" / compilations.machine()
    assert not good.wrong
    assert compilations.usable(tmp_path / "a" / "b") == good
    assert compilations.usable(None).folder is None
    good.folder.chmod(0o720)
    assert "others may write" in compilations.usable(tmp_path / "a" / "b").why
    good.folder.chmod(0o755)
    assert compilations.usable(tmp_path / "a" / "b") == good
    (tmp_path / "file").write_text("")
    assert "cannot be made" in compilations.usable(tmp_path / "file").why
    assert compilations.usable(tmp_path / "file" / "below").wrong
    monkeypatch.setattr(os, "getuid", lambda: good.folder.stat().st_uid + 1)
    assert "another user" in compilations.usable(tmp_path / "a" / "b").why


def kept(root: Path, ages: list[float], size: int) -> list[Path]:
    """Programs of some size that were last used so many seconds ago."""
    (root / "machine").mkdir(parents=True, exist_ok=True)
    paths = [root / "machine" / f"{place}-{size}-cache" for place in range(len(ages))]
    for path, age in zip(paths, ages, strict=True):
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - age,) * 2)
    return paths


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    paths = kept(tmp_path, [50, 10, 40, 20, 30], 100)
    assert compilations.contents(tmp_path) == compilations.Contents(5, 500)
    assert compilations.clear(tmp_path, bound=500) == 0
    # Within the hour nobody looks again.
    assert compilations.clear(tmp_path, bound=400) == 0
    assert compilations.clear(tmp_path, bound=400, between=0) == 2
    assert [path.exists() for path in paths] == [False, True, False, True, True]
    # Read since: it stays.
    os.utime(paths[4], (time.time(), time.time() - 30))
    assert compilations.clear(tmp_path, bound=200, between=0) == 2
    assert [path.exists() for path in paths] == [False, False, False, False, True]


def test_files_that_a_kill_left_empty_go(tmp_path):
    old, new = kept(tmp_path, [7200, 1], 0)
    (whole,) = kept(tmp_path, [7200], 8)
    assert compilations.clear(tmp_path) == 1
    assert [path.exists() for path in (old, new, whole)] == [False, True, True]
    assert compilations.clear(tmp_path / "none") == 0


def test_a_machine_is_named_by_what_its_processor_can_do(monkeypatch):
    here = compilations.machine()
    assert here == compilations.machine.__wrapped__()
    monkeypatch.setattr(compilations, "_features", lambda: ["avx512f", "sse2"])
    assert compilations.machine.__wrapped__() != here


@pytest.mark.slow  # two processes
def test_the_doctor_says_what_is_kept_and_what_is_read(capsys):
    main(["doctor"])
    first, *printed = capsys.readouterr().out.splitlines()
    assert all(name in first for name in ("Python", "flowlift", "jaxlib", "diffrax"))
    assert any(line.startswith("devices") for line in printed)
    assert any("JAX's own setting names the folder" in line for line in printed)
    assert any(line.startswith("numbers    x64 on in commands") for line in printed)
    assert any(line.startswith("products") and "'highest'" in line for line in printed)
    assert any(line.startswith("threads") and "BLAS" in line for line in printed)
    (again,) = [line for line in printed if line.startswith("again")]
    assert "a second process read" in again
    (hits,) = [line for line in printed if line.startswith("hits")]
    read, asked, missed = (int(word) for word in hits.split() if word.isdecimal())
    assert read + missed == asked > 0
    # Programs of one name share a line.
    reasons = [line for line in printed if line.startswith("  miss")]
    assert len(reasons) <= missed
    assert all(len(line.partition(": ")[2]) > 10 for line in reasons)


def test_a_device_that_is_not_there_is_named(monkeypatch):
    def nothing() -> None:
        raise AssertionError

    monkeypatch.setattr("jax.devices", nothing)
    with pytest.raises(ValueError, match=r"JAX_PLATFORMS.*it has no such platform.*unset it"):
        compilations.started()


def test_the_doctor_speaks_of_the_users_own_environment():
    from flowlift.cli.doctor import _numbers, _threads

    assert "in scripts it is off" in next(_numbers({}))
    assert "off" not in next(_numbers({"JAX_ENABLE_X64": "True"}))
    assert "set OPENBLAS_NUM_THREADS=1" in next(_threads({}))
    assert "set OPENBLAS" not in next(_threads({"OPENBLAS_NUM_THREADS": "1"}))
