"""One Dask worker for each GPU, seen by itself alone: with devices that are not there."""

import os
import signal
import subprocess
import sys

import pytest

from flowlift.sweep.devices import VISIBLE, plan_of, visible_devices


def test_each_worker_sees_its_own_device_and_has_one_thread():
    workers = plan_of("tcp://there:8786", ["2", "GPU-9a"], host="node")
    assert [worker.environment[VISIBLE] for worker in workers] == ["2", "GPU-9a"]
    assert {worker.environment["JAX_ENABLE_X64"] for worker in workers} == {"1"}
    for worker, name in zip(workers, ("node-gpu-2", "node-gpu-GPU-9a"), strict=True):
        words = worker.command
        assert words[3] == "tcp://there:8786"
        assert words[words.index("--name") + 1] == name
        assert words[words.index("--nthreads") + 1] == words[words.index("--nworkers") + 1] == "1"


@pytest.mark.parametrize("devices", [[], ["0", "0"], ["all"], ["-1"]])
def test_devices_that_are_none_are_refused(devices):
    with pytest.raises(ValueError, match=r"^Argument `devices` must name each GPU once"):
        plan_of("tcp://there:8786", devices)


def test_devices_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv(VISIBLE, "3, 5")
    assert visible_devices() == ("3", "5")
    monkeypatch.setenv(VISIBLE, "")
    with pytest.raises(ValueError, match="where no GPU is found"):
        visible_devices()
    monkeypatch.delenv(VISIBLE)
    # A machine without the driver's command.
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="where no GPU is found"):
        visible_devices()


# A scheduler and two workers with their nannies: seconds of imports.
@pytest.mark.slow
def test_workers_of_a_cluster_have_their_devices_and_end_with_the_command():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        address = cluster.scheduler_address
        command = [sys.executable, "-m", "flowlift.sweep.devices", address, "--devices", "7", "9"]
        process = subprocess.Popen(command)
        try:
            client.wait_for_workers(2, timeout=240)
            seen = client.run(os.getenv, VISIBLE)
            assert sorted(seen.values()) == ["7", "9"]
            assert set(client.nthreads().values()) == {1}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
        assert not client.nthreads()
