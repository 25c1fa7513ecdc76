"""Families of cases on disk: kills inside a write, and random study files through a store."""

import os
import re
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from made_up_store import made_up_store, number
from study_text import TINY

from flowlift import flow, store, studies
from flowlift.cli.flags import with_flags
from flowlift.flow import checkpoints
from flowlift.studies.toml import plain
from flowlift.sweep import run_study
from flowlift.sweep.admission import check_grid
from flowlift.sweep.checking import check_study

from . import checks, draws, families

# More runs than that are planned, checked and written back, but not stored.
_RUNS = 30
# One study in so many is computed, twice.
_COMPUTED = 25


def writes(number: int, solver: str | None = None) -> None:
    """A writer killed at any line of a checkpoint's write leaves the old one or the new one."""
    shapes, rng = draws.streams("writes", number)
    case = draws.draw_flow(shapes, rng, solver)
    whole = case.solve()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.npz"
        old, new = (_kept(case, path, legs) for legs in sorted(rng.integers(0, 4, 2)))
        if old is None or new is None:
            # The flow has fewer legs than that.
            return
        for _ in range(4):
            path.write_bytes(old)
            arrays = checkpoints.read(path)
            path.write_bytes(new)
            died = _killed_at(int(10 ** rng.uniform(0, 3.5)), path, arrays)
            found = path.read_bytes()
            # Equal contents are packed alike, but for the time of packing.
            one = any(_same_arrays(found, other, Path(folder)) for other in (old, new))
            checks.expect(one and (died or found != new or old == new), "old or new", died)
            again = case.solve(checkpoints=flow.Checkpoints(path, every=0))
            checks.same_bits(again, whole)


def _kept(case, path: Path, legs: int) -> bytes | None:
    """The checkpoint after so many legs."""
    path.unlink(missing_ok=True)
    try:
        case.solve(checkpoints=families.killed_after(path, legs))
    except families.Killed:
        return path.read_bytes()
    return None


def _same_arrays(one: bytes, other: bytes, folder: Path) -> bool:
    found = []
    for content in (one, other):
        (folder / "copy.npz").write_bytes(content)
        found.append(checkpoints.read(folder / "copy.npz"))
    same = [np.array_equal(found[0][k], found[1].get(k, np.nan), equal_nan=False) for k in found[0]]
    return found[0].keys() == found[1].keys() and all(same)


def _killed_at(line: int, path: Path, arrays) -> bool:
    """Write in a child that kills itself at its line-th line of Python; whether it did."""
    with warnings.catch_warnings():
        # JAX warns of its threads, which the child has no use for.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        left = line

        def trace(frame, event, argument):
            nonlocal left
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        checkpoints.write_whole(path, lambda name: checkpoints.save(name, arrays))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


GOOD = {
    "name": ["'other'", "'a b'"],
    "seeds": ["1", "2", "3"],
    "first_seed": ["0", "5", "9223372036854775806"],
    "seeds_at_most": ["{4=1}", "{4=2}"],
    "precision": ["'float32'", "'float64'"],
    "chunk": ["1", "3", "100"],
    "module.depth": ["1", "2"],
    "module.activation": ["'tanh'", "'softplus'"],
    "lift.sizes": ["[4]", "[2, 6]", "[1]"],
    "lift.edges": ["{kind='complete'}", "{kind='fixed_in_degree', degree=2}"],
    "lift.weights": ["{kind='gaussian', scale=0.5}", "{kind='uniform', scale=1}"],
    "lift.ratios": ["{h1=2.0}", "{h1=0.1}"],
    "lift.size_counts": ["'copies'", "'parameters'"],
    "task.samples": ["4", "9"],
    "task.harmonics": ["{1=1.0, 2=0.5}", "{3=[0.5, 0.5]}"],
    "flow.horizon": ["0.5", "1", "2.5"],
    "flow.solver": ["'bdf'", "'rkc2'", "'auto'"],
    "flow.rtol": ["1e-4", "1e-3"],
    "flow.atol": ["1e-6", "0.0"],
    "flow.per_decade": ["1", "3"],
    "flow.first_time": ["0.1", "0.01"],
    "flow.loss_below": ["0.1", "-1"],
    "flow.gradient_norm_below": ["0.1"],
    "flow.stagnation": ["0.01"],
    "flow.max_steps": ["5", "1000"],
    "flow.max_gradients": ["50", "inf"],
    "question": ["{losses=[0.1, 0.01]}", "{losses=[0.1], times=[0.5], delta=0.2}"],
    "vary": ["{'flow.rtol'=[1e-3, 1e-4]}", "{'module.depth'=[1, 2], precision=['float32']}"],
    "alternatives": ["{a={x={'flow.rtol'=1e-3}, y={'flow.rtol'=1e-4, seeds=1}}}"],
    "observe": ["{quantities=['gradient_norm']}", "{quantities=['kernel_top']}"],
    "quick": ["{seeds=1}"],
}
ODD = ["nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "1" + "0" * 25, "9223372036854775808"]
ODD += ["''", "'x'", "[]", "[1, 1]", "[nan]", "[[1]]", "{}", "{a=1}", "{a={b={c=1}}}", "true"]
ODD += ["1979-05-27", "'../x'", '"a\\u0000b"', "3.5", "'nan'", "[{}]", "-0.0", '"\\ud7ff"', "0x10"]
MALFORMED = [
    "=1",
    "flow=",
    "flow",
    "[x]",
    "flow.rtol=1 2",
    "a.b.c=2",
    "flow..rtol=1",
    ".=1",
    "\0=1",
]
MALFORMED += ["flow.rtol.x=1", "'flow.rtol'=1", "seeds=1\nchunk=2", "flow.rtol={", "name='"]


def assignments(rng) -> list[str]:
    """What a user might assign: mostly of the kind that is wanted, some of another, some none."""
    texts = []
    for _ in range(int(rng.integers(1, 5))):
        key, way = str(rng.choice(list(GOOD))), rng.random()
        value = str(rng.choice(GOOD[key if way < 0.7 else str(rng.choice(list(GOOD)))]))
        value = str(rng.choice(ODD)) if 0.75 < way < 0.95 else value
        texts.append(f"{key}={value}" if way < 0.97 else str(rng.choice(MALFORMED)))
    return texts


def study_files(number: int, computed: bool = True) -> None:
    """A study is refused in one sentence, or is written back, planned, stored and loaded whole."""
    _, rng = draws.streams("study_files", number)
    given = assignments(rng)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.toml"
        file.write_text(TINY)
        try:
            study = studies.read_study(file, given)
            check_grid(study)
            check_study(study)
        except ValueError as error:
            checks.one_sentence(str(error), given)
            return
        again = Path(folder) / "again.toml"
        again.write_text(studies.to_toml(study))
        checks.expect(studies.read_study(again) == study, "written and read", given)
        checks.expect(studies.structure_study(plain(study)) == study, "plain and back", given)
        _as_flags(file, given, study)
        if sum(len(cell.runs) for cell in studies.cells(study)) <= _RUNS:
            once = computed and rng.integers(0, _COMPUTED) == 0
            _through_a_store(study, Path(folder), given, once)


# Values that flags write as assignments do.
_SCALAR = re.compile(r"(seeds|chunk|precision|flow\.\w+|module\.\w+|task\.samples)='?([\w.-]+)'?")


def _as_flags(file: Path, given: list[str], study) -> None:
    matches = [_SCALAR.fullmatch(text) for text in given]
    if all(matches):
        flags = [part for m in matches if m for part in (f"--{m[1].replace('_', '-')}", m[2])]
        plainly = studies.read_study(file)
        # Only what the file has a value for can be given: others have no type.
        checks.expect(with_flags(plainly, flags, "fuzz") == study, "by flags", given, flags)


def _through_a_store(study, folder: Path, given, computed: bool) -> None:
    cells = made_up_store(study, folder / "made_up")
    runs = [run for cell in cells for run in cell.runs]
    checks.expect(len(set(runs)) == len(runs), "runs differ", given)
    data = store.load(folder / "made_up")
    found = {
        str(run): float(loss)
        for run, loss in zip(
            data["run"].values.ravel(), data["final_loss"].values.ravel(), strict=True
        )
        if run
    }
    checks.expect(found == {run: number(run) for run in runs}, "runs loaded", given, found)
    checks.expect(store.damages(folder / "made_up") == [], "no damage", given)
    if computed and len(runs) <= 4:
        one, two = (run_study(study, folder / name, progress=False) for name in ("one", "two"))
        when = [name for name in one if str(name).endswith(("seconds", "ended"))]
        same = one.drop_vars(when)
        checks.expect(same.equals(two[list(same.data_vars)]), "computed twice", given)
        checks.expect(run_study(study, folder / "one", progress=False).equals(one), "no run again")


FAMILIES = {"writes": writes, "study_files": study_files}
