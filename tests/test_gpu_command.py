"""`make test-gpu` says so when there is no GPU."""

import gpu as command
import jax


def test_without_a_gpu_it_says_so_and_succeeds(monkeypatch, capsys):
    def none(platform):
        raise RuntimeError(f"no {platform}")

    monkeypatch.setattr(jax, "devices", none)
    assert command.main() == 0
    assert "No GPU" in capsys.readouterr().out


def test_with_a_gpu_it_runs_the_tests_then_the_benchmark(monkeypatch):
    class Device:
        device_kind = "imagined"

    commands = []
    monkeypatch.setattr(jax, "devices", lambda platform: [Device()])
    monkeypatch.setattr(command.subprocess, "call", lambda c, cwd: commands.append(c) or 0)
    assert command.main() == 0
    assert commands[0][1:5] == ["-m", "pytest", "-m", "gpu"]
    assert commands[1][1] == "benchmarks/kernels.py"
