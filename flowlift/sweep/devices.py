"""One Dask worker for each GPU of this machine, each of which sees its own alone.

    python -m flowlift.sweep.devices tcp://scheduler:8786
    python -m flowlift.sweep.devices tcp://scheduler:8786 --devices 0 1

JAX takes all GPUs that it sees, and most of the memory of each: two workers that see the same ones
are in each other's way. So each is started with `CUDA_VISIBLE_DEVICES` of its own, and one thread.
"""

import argparse
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from .worker import ENVIRONMENT

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Seconds between two looks whether all workers have ended.
_LOOK = 0.5
_REMEDY = "name them by `--devices`, as CUDA_VISIBLE_DEVICES does"


@dataclasses.dataclass(frozen=True)
class DeviceWorker:
    """A worker that is not started yet.

    Attributes:
        device: the number or the UUID of its GPU.
        command: what starts it.
        environment: what it has beside the environment of whoever starts it.
    """

    device: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def plan_of(address: str, devices: Sequence[str], host: str | None = None) -> list[DeviceWorker]:
    """One worker for each device. Nothing is started.

    Args:
        address: of the scheduler.
        devices: numbers or UUIDs of GPUs, as in CUDA_VISIBLE_DEVICES.
        host: the name of this machine, for the names of workers; None: as the system says.

    Returns:
        The workers.

    Raises:
        ValueError: if there are no devices, or one is there twice or is no number or UUID.
    """
    known = [str(device).strip() for device in devices]
    good = all(each.isdigit() or each.startswith(("GPU-", "MIG-")) for each in known)
    if not known or len(set(known)) != len(known) or not good:
        raise ValueError(
            "Argument `devices` must name each GPU once, by number or UUID, but is "
            f"{list(devices)!r}; {_REMEDY}."
        )
    host = socket.gethostname() if host is None else host
    start = (sys.executable, "-m", "distributed.cli.dask_worker", address)
    alone = ("--nworkers", "1", "--nthreads", "1")
    return [
        DeviceWorker(
            each,
            (*start, *alone, "--name", f"{host}-gpu-{each}"),
            {**ENVIRONMENT, VISIBLE: each},
        )
        for each in known
    ]


def visible_devices() -> tuple[str, ...]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all of the machine.

    Returns:
        Numbers or UUIDs.

    Raises:
        ValueError: if there is none.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        found = [each.strip() for each in given.split(",") if each.strip()]
    else:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        except (OSError, subprocess.CalledProcessError):
            found = []
    if not found:
        raise ValueError(f"Argument `devices` must be given where no GPU is found; {_REMEDY}.")
    return tuple(found)


def run(plan: Sequence[DeviceWorker]) -> int:
    """Start workers, and wait for all of them; told to end, they are told too.

    Args:
        plan: the workers.

    Returns:
        The largest exit status.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def end(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for worker in plan:
            environment = {**os.environ, **worker.environment}
            processes.append(subprocess.Popen(worker.command, env=environment))
        while any(process.poll() is None for process in processes):
            time.sleep(_LOOK)
    finally:
        end(signal.SIGTERM, None)
        for number, handler in before.items():
            signal.signal(number, handler)
    return max(abs(process.wait()) for process in processes)


def main(words: Sequence[str] | None = None) -> int:
    """The command.

    Args:
        words: its arguments; None for those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m flowlift.sweep.devices", description=__doc__)
    parser.add_argument("address", help="of the Dask scheduler, such as tcp://host:8786")
    parser.add_argument("--devices", nargs="+", help="numbers or UUIDs of GPUs; all if left out")
    given = parser.parse_args(words)
    return run(plan_of(given.address, given.devices or visible_devices()))


if __name__ == "__main__":
    sys.exit(main())
