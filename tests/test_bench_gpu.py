"""`make bench-gpu` on a CPU, at small sizes: it runs, is right, and every part is bounded."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def script():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("body", "right", "said"),
    [
        ("echo '{\"right\": true}'", True, []),
        ("echo '{\"right\": false}'", False, []),
        ("exit 3", False, ["ended by 3"]),
        ("exec sleep 60", False, ["took more than 0 s"]),
    ],
)
def test_a_part_that_hangs_or_fails_costs_no_other(tmp_path, monkeypatch, body, right, said):
    """A shell stands in for the interpreter."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{body}\n")
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    path = tmp_path / "found.jsonl"
    seconds = 0.2 if said and "more" in said[0] else 60.0
    with path.open("w") as file:
        assert script()._kept("correct", True, seconds, file) == right
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["failed"] for row in rows if "failed" in row] == said


def test_shares_are_of_all_parts():
    module = script()
    assert module.SHARES.keys() == module.PARTS.keys()
    assert next(iter(module.SHARES)) == "correct"


@pytest.mark.slow  # Compiles some dozens of programs.
@pytest.mark.parametrize("part", ["correct", "kernels", "flow", "ensembles"])
def test_every_part_runs_on_a_cpu(part):
    rows = list(script().PARTS[part](True))
    assert rows
    for row in rows:
        assert row.get("right", True)
        assert all(value > 0 for name, value in row.items() if name.endswith("_s"))
