"""A cluster without workers is waited for, visibly, and not for ever; a cluster in trouble."""

import concurrent.futures
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from flowlift import studies, sweep
from flowlift.sweep import dask_executor, dispatch
from flowlift.sweep.work import Manner


class Client:
    """Stands for Dask's: a scheduler that has so many workers at each look."""

    def __init__(self, workers=()):
        self.looks, self.workers = 0, list(workers)
        self.future = concurrent.futures.Future()

    def get_executor(self):
        return self

    def submit(self, *_):
        return self.future

    def nthreads(self):
        self.looks += 1
        found = self.workers.pop(0) if self.workers else 0
        if isinstance(found, Exception):
            raise found
        return dict.fromkeys(range(found), 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(dask_executor, "_LOOK", 0.001)
    monkeypatch.setattr(dispatch, "_SILENCE", 0.001)


def dispatcher(client, patience, study, folder):
    executor = dask_executor.DaskWorkers(client, "tcp://there:8786", patience)
    return dispatch.Dispatcher(study, folder, executor, Manner())


@pytest.fixture
def study():
    return studies.structure_study(
        {
            "name": "small", "seeds": 1,
            "module": {"kind": "mlp", "inputs": 2, "depth": 1},
            "lift": {"sizes": [4], "edges": {"kind": "complete"}},
            "task": {"kind": "periodic", "harmonics": {"1": 1.0}, "samples": 8},
            "flow": {"horizon": 1.0, "solver": "tsit5"},
        }
    )  # fmt: skip


def test_workers_that_never_come_are_given_up_with_a_sentence(study, tmp_path):
    there = dispatcher(Client(), 0.05, study, tmp_path)
    with (
        pytest.warns(UserWarning, match=r"no workers at tcp://there:8786; cells wait.*0\.05 s"),
        pytest.raises(sweep.WorkersLost, match="run the same command again"),
    ):
        list(there.results(studies.cells(study)))


@pytest.mark.parametrize("looks", [[1], [0, 0, 1], [OSError("closed")]])
def test_cells_wait_for_workers_that_come_back(study, tmp_path, looks):
    """Or for a scheduler that does not answer: its client is to say so."""
    client = Client([*looks, *[1] * 10_000])
    count = len(looks) + 1
    nthreads = client.nthreads

    def end():
        found = nthreads()
        if client.looks > count and not client.future.done():
            client.future.set_result(True)
        return found

    client.nthreads = end
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (done,) = dispatcher(client, 60.0, study, tmp_path).results(studies.cells(study))
    assert done.size == 4
    assert len(said) == (looks[0] == 0)


def test_a_cell_that_ended_is_not_kept_waiting():
    client = Client([0])
    executor = dask_executor.DaskWorkers(client, "tcp://there:8786", 60.0)
    with pytest.warns(UserWarning, match="no workers"):
        executor.await_workers(lambda: True)
    assert client.looks == 2


@pytest.mark.parametrize("patience", [0.0, -1.0, float("nan")])
def test_a_patience_that_is_none_is_refused(patience):
    with (
        pytest.raises(ValueError, match="`patience` must be a positive"),
        sweep.dask_workers("tcp://127.0.0.1:1", patience=patience),
    ):
        pass


def test_patience_is_for_clusters():
    with pytest.raises(ValueError, match="`patience` must be given with `dask`"):
        sweep.executor_of(2, patience=3.0)


# Four workers import JAX three times over, which takes a minute of two cores.
@pytest.mark.slow
def test_nothing_is_lost_where_workers_and_the_scheduler_die():
    pytest.importorskip("distributed", reason="optional extra")
    script = Path(__file__).parents[2] / "benchmarks" / "cluster.py"
    given = ["dask", "--cells", "400", "--kill-every", "10"]
    done = subprocess.run(
        [sys.executable, str(script), *given], capture_output=True, text=True, check=True
    )
    found = re.search(
        r"(\d+) workers killed.*?400 runs, 400 stored, (\d+) begun again, 0 in two files",
        done.stdout,
        re.DOTALL,
    )
    assert found, done.stdout + done.stderr
    kills, again = map(int, found.groups())
    # A kill costs the run of one worker; the end of the scheduler that of four.
    assert kills >= 1
    assert again <= kills + 4
    assert "set aside: False" in done.stdout
