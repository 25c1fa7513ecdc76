"""Samples spread over 4 virtual CPU devices: the same numbers, and one sum as communication."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # four devices in a process of their own
@pytest.mark.parametrize("method", ["csr", pytest.param("padded", marks=pytest.mark.slow)])
def test_four_devices_equal_one(method):
    four = "--xla_force_host_platform_device_count=4"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {four}".strip(),
    }
    script = Path(__file__).with_name("sharded.py")
    run = subprocess.run(
        [sys.executable, str(script), method], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["devices"] == 4
    assert found["chunks per device"] == 3
    assert set(found["communication"]) == {"all-reduce"}
    for quantity in ("loss", "gradient", "hvp", "reverse hvp"):
        assert found[quantity] < 1e-12, quantity
    assert found["flow"] < 1e-9
    assert found["steps"][0] == found["steps"][1]
