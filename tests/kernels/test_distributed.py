"""Samples spread over two processes of `jax.distributed`: the same flow in both."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


# Two processes that import and compile.
@pytest.mark.slow
def test_two_processes_flow_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    # One device a process, whatever the tests' own process has.
    environment.pop("XLA_FLAGS", None)
    both = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found = [json.loads(out.splitlines()[-1]) for out, _ in told]
    for each in found:
        assert each["devices"] == [2, 1]
        assert each["loss"] < 1e-12
        assert each["gradient"] < 1e-12
        assert each["flow"] < 1e-9
        assert each["steps"][0] == each["steps"][1]
    # Each holds a part of the samples, and both the same flow, to the last bit.
    assert sum(each["samples here"] for each in found) == 23
    assert 0 < found[0]["samples here"] < 23
    assert found[0]["losses"] == found[1]["losses"]
