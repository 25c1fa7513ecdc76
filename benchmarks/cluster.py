"""Many cells on Dask whose workers and scheduler die, and many array jobs on one folder.

    python benchmarks/cluster.py dask                 # 2,500 cells, 4 workers, a kill every 20 s
    python benchmarks/cluster.py dask --cells 400 --kill-every 10 --run 0.05
    python benchmarks/cluster.py shards               # 100 array jobs at once, 10 of them twice

Cells are real but for their flows: one flow is computed, and each run waits for some time and takes
its numbers. Each run that is begun is counted by a byte in a file. Scheduling a cell takes CPU time
of the master, counted from the first cell it hands out, and of the scheduler, but for its starts.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import psutil

from flowlift import store, studies, sweep
from flowlift.store import cells
from flowlift.studies import grid
from flowlift.sweep import cell as cell_module
from flowlift.sweep import dispatch, run, work, worker

_FLOW, _BEGUN, _SECONDS = "flow.pickle", "begun", "seconds"
STUDY = """
name = "cluster"
chunk = {chunk}
[module]
kind = "mlp"
inputs = 2
depth = 1
[lift]
sizes = [4, 8, 16, 32, 64]
edges = {{ kind = "complete" }}
[task]
kind = "periodic"
harmonics = {{ 1 = 1.0 }}
samples = 8
[flow]
horizon = 5.0
solver = "tsit5"
"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("dask", "shards"))
    parser.add_argument("--cells", type=int, default=2500)
    parser.add_argument("--kill-every", type=float, default=20.0)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--run", type=float, help="seconds of a run, in place of its flow")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "results"
        study = _study(Path(place), given.cells, 1 if given.what == "dask" else 4)
        _first_flow(study, Path(place))
        # On Dask a few kills should fall into the study.
        seconds = given.run or (0.3 if given.what == "dask" else 0.02)
        (Path(place) / _SECONDS).write_text(str(seconds))
        began = time.monotonic()
        if given.what == "dask":
            _on_dask(study, folder, given.kill_every)
        else:
            _in_shards(study, folder, given.shards)
        _count(study, folder, time.monotonic() - began)


def _study(place: Path, count: int, chunk: int) -> studies.Study:
    file = place / "study.toml"
    file.write_text(STUDY.format(chunk=chunk))
    return studies.read_study(file, [f"seeds={count // 5}"])


def _first_flow(study: studies.Study, place: Path) -> None:
    """In a process of its own, so that this one has not started JAX when it forks."""
    code = (
        "import pickle, sys; from flowlift import studies; from flowlift.sweep import cell;"
        f"study = studies.read_study({str(place / 'study.toml')!r}, ['seeds=1']);"
        "first = next(studies.cells(study)); data, solution = cell.Bench(study, first).run(0);"
        f"open({str(place / _FLOW)!r}, 'wb').write(pickle.dumps(data))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


class _Bench:
    """Stands for `cell.Bench`: the numbers of one flow for every run."""

    def __init__(self, study: studies.Study, cell: grid.Cell):
        self.study = cell_module._variant(study, cell)

    def run(self, *_: Any) -> tuple[Any, None]:
        """Wait, and count."""
        place = Path(os.environ["FLOWLIFT_CLUSTER"])
        descriptor = os.open(place / _BEGUN, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, b".")
        os.close(descriptor)
        time.sleep(_seconds(place))
        return dict(_flow(place)), None


@functools.cache
def _flow(place: Path) -> Mapping[str, Any]:
    return pickle.loads((place / _FLOW).read_bytes())


@functools.cache
def _seconds(place: Path) -> float:
    return float((place / _SECONDS).read_text())


def compute(*given: Any) -> bool:
    """In a worker, what `flowlift.sweep.worker.compute` does, but for the flows."""
    os.environ["FLOWLIFT_CLUSTER"] = str(Path(given[2]).parent)
    work.Bench = _Bench
    return worker.compute(*given)


class _Cluster:
    """A scheduler and four workers of one thread, which are killed and come again."""

    def __init__(self, place: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        # CPU seconds of schedulers, and those of them before they answered.
        self._place, self.kills, self.cpu, self.starting = place, 0, 0.0, 0.0
        self._stop = threading.Event()
        self.start()

    def start(self) -> None:
        """Start both."""
        where = ["--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard"]
        self.scheduler = self._dask("scheduler", *where)
        while not self._answers():
            time.sleep(0.1)
        self.starting += self._cpu_of_scheduler()
        self._start_workers()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def _cpu_of_scheduler(self) -> float:
        times = psutil.Process(self.scheduler.pid).cpu_times()
        return times.user + times.system

    def _start_workers(self) -> None:
        four = ["--nworkers", "4", "--nthreads", "1", "--no-dashboard"]
        local = ["--local-directory", str(self._place)]
        self.workers = self._dask("worker", self.address, *four, *local)

    def _dask(self, *given: str) -> subprocess.Popen:
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        quiet["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.Popen([sys.executable, "-m", "dask", *given], **quiet)

    def kill_every(self, seconds: float) -> None:
        """Kill a worker again and again, in a thread, once the one before has been replaced.

        On quiet cores that takes less than the seconds given.
        """

        def killing() -> None:
            while not self._stop.wait(seconds):
                if self.workers.poll() is not None:
                    # They gave up a scheduler that was not there yet.
                    self._start_workers()
                    continue
                while not (computing := self._computing()) and not self._stop.wait(0.5):
                    pass
                if computing:
                    os.kill(random.choice(computing), signal.SIGKILL)
                    self.kills += 1

        threading.Thread(target=killing, daemon=True).start()

    def _computing(self) -> list[int]:
        """The workers' processes, if each has stored a cell: files of the index are named by it."""
        try:
            below = psutil.Process(self.workers.pid).children(recursive=True)
            there = [p.pid for p in below if "spawn_main" in " ".join(p.cmdline())]
            stored = os.listdir(self._place / "results" / "index")
        except (psutil.Error, FileNotFoundError):
            return []
        found = [p for p in there if any(f"-{p}" in name for name in stored)]
        return found if len(found) == 4 else []

    def restart(self) -> None:
        """The scheduler dies, and its workers with it; both are started again."""
        self.end()
        self.start()

    def end(self) -> None:
        """Count the scheduler's time, and end all."""
        self.cpu += self._cpu_of_scheduler()
        below = psutil.Process(self.workers.pid).children(recursive=True)
        for process in (self.scheduler, self.workers, *below):
            with_pid = process.pid
            try:
                os.kill(with_pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.scheduler.wait()
        self.workers.wait()

    def close(self) -> None:
        self._stop.set()
        self.end()


def _on_dask(study: studies.Study, folder: Path, kill_every: float) -> None:
    # By the name under which workers find it, which is not that of a script.
    dispatch.compute, sent = importlib.import_module("cluster").compute, _counted_cells()
    cluster = _Cluster(folder.parent)
    cluster.kill_every(kill_every)
    half = sum(1 for _ in studies.cells(study)) // 2
    threading.Thread(target=_restart_at, args=(cluster, folder, half), daemon=True).start()
    # Whatever happens, no worker outlives the drill.
    with contextlib.closing(cluster):
        lost = _completed(study, folder, cluster.address)
        cpu = time.process_time() - sent["first"]
    print(f"{cluster.kills} workers killed, the scheduler once; begun again {lost} times")
    count = 2 * half
    mine, its = 1e3 * cpu / count, 1e3 * (cluster.cpu - cluster.starting) / count
    there, back = sent["bytes"] / sent["cells"], sent["back"] / count
    print(f"a cell: {mine:.1f} ms of the master, {its:.1f} ms of the scheduler,", end=" ")
    print(f"{there:.0f} bytes sent, {back:.0f} back; {sent['cells']} handed out;", end=" ")
    print(f"{cluster.starting:.1f} s to start two schedulers")


def _completed(study: studies.Study, folder: Path, address: str) -> int:
    """Complete a study, beginning again whenever the cluster is lost; how often it was."""
    lost = 0
    while True:
        try:
            with sweep.dask_workers(address) as executor:
                sweep.complete_study(study, folder, executor=executor, progress=False)
            return lost
        except (sweep.WorkersLost, OSError) as error:
            lost += 1
            print(f"lost: {str(error)[:90]}", flush=True)


def _counted_cells() -> dict[str, float]:
    """From now on, what is sent for cells and comes back, and this process's time at the first."""
    sent = collections.defaultdict(float)
    submit = dispatch.Dispatcher._submit

    def counted(self, cell, manner):
        sent.setdefault("first", time.process_time())
        fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
        parts = (self._text_for(cell), fields, str(self._directory), dataclasses.asdict(manner))
        sent["bytes"] += len(pickle.dumps(parts))
        sent["cells"] += 1
        future = submit(self, cell, manner)
        future.add_done_callback(back)
        return future

    def back(future) -> None:
        sent["back"] += _size(future)

    dispatch.Dispatcher._submit = counted
    return sent


def _size(future) -> int:
    return 0 if future.cancelled() or future.exception() else len(pickle.dumps(future.result()))


def _restart_at(cluster: _Cluster, folder: Path, half: int) -> None:
    while len(list((folder / "cells").glob("*.nc"))) < half:
        time.sleep(0.5)
    cluster.restart()


def _in_shards(study: studies.Study, folder: Path, count: int) -> None:
    """All at once, forked from here: imports are paid once, and no engine runs."""
    os.environ["FLOWLIFT_CLUSTER"] = str(folder.parent)
    work.Bench = _Bench
    # A model of each size would be drawn by each process.
    run.check_study = lambda study: None
    _flow(folder.parent)
    children = []
    for number in [*range(count), *range(0, count, 10)]:
        if not (child := os.fork()):
            code = 1
            try:
                sweep.complete_study(study, folder, shard=(number, count), progress=False)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"{len(children)} processes at once, {sum(code != 0 for code in codes)} failed")


def _count(study: studies.Study, folder: Path, seconds: float) -> None:
    """Nothing is lost, and no run counts twice."""
    runs = [r for row in grid.rows(study) for r in row.runs]
    begun = (folder.parent / _BEGUN).stat().st_size
    held = collections.Counter(r for e in cells.index(folder).values() for r in e.runs)
    found = store.status(folder, cells.reread)
    print(f"{len(runs)} runs, {found.done} stored, {begun - len(runs)} begun again,", end=" ")
    print(f"{sum(n > 1 for n in held.values())} in two files, {seconds:.0f} s")
    lines = len(os.listdir(folder / "index"))
    print(f"set aside: {(folder / 'set_aside').exists()}; {lines} files of the index")


if __name__ == "__main__":
    main()
