"""What a store asks of a file system: metadata calls of each question, and seconds at 5 ms a call.

    python benchmarks/slow_files.py                 # 400 runs in 100 cells
    python benchmarks/slow_files.py --runs 4000

Calls of the system that a shared file system answers over the network are counted, not slowed down:
stat, open, listing, rename, link, unlink, mkdir, chmod, utime, fsync. Reading and writing are not.
"""

import argparse
import builtins
import collections
import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")

import store as store_benchmark

from flowlift import store, studies, sweep
from flowlift.store import cells, folding, index
from flowlift.sweep import cell as cell_module
from flowlift.sweep import work

_CALL = 0.005
_COUNTED = ("stat", "lstat", "open", "listdir", "scandir", "rename", "replace", "link", "unlink")
_COUNTED += ("mkdir", "chmod", "utime", "fsync", "remove", "rmdir")


@contextlib.contextmanager
def counting(place: Path) -> Iterator[collections.Counter[str]]:
    """Count calls on what lies below a folder."""
    counts: collections.Counter[str] = collections.Counter()
    before = {name: getattr(os, name) for name in _COUNTED} | {"": builtins.open}

    def counted(name: str, function: Callable) -> Callable:
        def call(*given: Any, **more: Any) -> Any:
            path = given[0] if given else "."
            # A descriptor says nothing of where; those of a flush are ours.
            if isinstance(path, int):
                counts[name] += name == "fsync"
            elif str(os.fspath(path)).startswith(str(place)) and "opener" not in more:
                counts[name or "open"] += 1
            return function(*given, **more)

        return call

    for name, function in before.items():
        setattr(os if name else builtins, name or "open", counted(name, function))
    try:
        yield counts
    finally:
        for name, function in before.items():
            setattr(os if name else builtins, name or "open", function)


def main() -> None:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), runs)


def measure(place: Path, runs: int) -> None:
    one = store_benchmark.one_run(place / "one")
    study = store_benchmark.study_of(place / "study", runs, store_benchmark.SIZES)
    folder = place / "results"
    cells.write_study(study, folder)
    made = list(store_benchmark.made_up(study, one))
    say("write a cell's file", place, len(made), lambda: [write(c, d, folder) for c, d in made])
    files = sorted((folder / "cells").glob("*.nc"))
    say("read a cell's file", place, len(files), lambda: [cells.read_file(file) for file in files])
    say("status, cells", place, len(made), lambda: store.status(folder, cells.reread))
    shutil.copytree(folder, place / "copy")
    say("fold", place, len(made), lambda: folding.fold(folder))
    say("status, folded", place, 1, lambda: store.status(folder, cells.reread))
    say("load, folded", place, 1, lambda: store.load(folder))
    say("second run", place, 1, lambda: sweep.complete_study(study, folder, progress=False))
    around(place)


def write(cell: Any, data: Any, folder: Path) -> None:
    cells.write_cell(data, cell, folder)


def around(place: Path) -> None:
    """A cell of four runs as a worker computes it, alone and beside 100 live writers."""
    study = store_benchmark.study_of(place / "around", 120, [4])
    kept: dict[str, object] = {}
    flow, maker = cell_module._flow, cell_module.model_maker
    first = lambda key, make: kept[key] if key in kept else kept.setdefault(key, make())
    cell_module._flow = lambda *a, **k: first("flow", lambda: flow(*a, **k))
    cell_module.model_maker = lambda study: lambda *a: first("model", lambda: maker(study)(*a))
    results, every = place / "computed", list(studies.cells(study))
    cells.write_study(study, results)
    watch, manner = index.Watch(results), work.Manner(insist=False)
    compute = lambda chosen: [
        work.compute_and_store(study, c, results, manner, watch) for c in chosen
    ]
    compute(every[:1])
    say("compute a cell, alone", place, 10, lambda: compute(every[1:11]))
    (own,) = (results / "index").iterdir()
    claim = '{"host": "elsewhere", "process": 1, "runs": ["%s"], "size": 4, "run": "", "seed": 0,'
    for number in range(100):
        text = claim % number + ' "facts": {}, "since": 0.0}'
        (results / "claims" / f"other-{number}.json").write_text(text)
        shutil.copy(own, results / "index" / f"other-{number}.jsonl")
    compute(every[11:12])
    say("compute a cell, 100 writers", place, 10, lambda: compute(every[12:22]))


def say(name: str, place: Path, count: int, function: Callable) -> None:
    with counting(place) as counts:
        function()
    calls = sum(counts.values()) / count
    which = ", ".join(f"{n / count:.1f} {name}" for name, n in counts.most_common(6))
    print(f"{name:28}{calls:9.1f} calls{calls * _CALL:9.2f} s   {which}", flush=True)


if __name__ == "__main__":
    main()
