"""Memory of a master and its workers, of a study of P = 105, and of what they import.

    python benchmarks/memory.py                  # Linux alone

Peaks in MB, looked at every 0.1 s: resident pages (RSS), the same with pages that several processes
map divided among them (PSS), and pages that are no file's (anonymous). The cache of compilations is
empty in the first run, and full in the second. What nobody can go below who flows by diffrax is its
flow of as many parameters, alone.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

STUDY = """
name = "memory"
seeds = 40
chunk = 4
[module]
kind = "mlp"
inputs = 2
depth = 2
[lift]
sizes = [8]
edges = { kind = "complete" }
[task]
kind = "periodic"
harmonics = { 1 = 1.0 }
samples = 16
[flow]
horizon = 10.0
solver = "tsit5"
"""
FLOOR = """
import diffrax, jax, jax.numpy as jnp
loss = lambda w: jnp.mean((jnp.tanh(jnp.ones((16, 2)) @ w[:80].reshape(2, 40)) @ w[80:]) ** 2)
diffrax.diffeqsolve(
    diffrax.ODETerm(lambda t, y, args: -jax.grad(loss)(y)), diffrax.Tsit5(), 0.0, 10.0, None,
    jnp.ones(120), stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-7),
)
"""
ALONE = {
    "JAX, one operation": "import jax.numpy as jnp; jnp.zeros(3) + 1",
    "the same and pandas, xarray, h5netcdf": "import jax.numpy as jnp; jnp.zeros(3) + 1; "
    "import pandas, xarray, h5netcdf",
    "a flow of P = 120 by diffrax alone": FLOOR,
    "what a worker imports": "import flowlift.sweep.work",
}
_KINDS = ("Rss", "Pss", "Anonymous")


def main() -> None:
    """Measure, and print a table."""
    print(f"{'':42}" + "".join(f"{kind:>11}" for kind in _KINDS))
    os.environ |= {"JAX_ENABLE_X64": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name, code in ALONE.items():
        show(name, next(iter(peaks([sys.executable, "-c", code]).values())))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "study.toml").write_text(STUDY)
        (place / "cache").mkdir(mode=0o700)
        os.environ["FLOWLIFT_CACHE"] = str(place / "cache")
        for state in ("cold", "warm"):
            run = [sys.executable, "-m", "flowlift", "run", str(place / "study.toml")]
            found = peaks([*run, "--workers", "2", "--output", str(place / state)])
            heavy = [peak for peak in found.values() if peak["Rss"] > 100]
            for who, peak in zip(("master", "worker", "worker"), heavy, strict=False):
                show(f"{who}, {state}", peak)


def peaks(command: list[str]) -> dict[int, dict[str, float]]:
    """Peaks of each process of a command."""
    found: dict[int, dict[str, float]] = {}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            whole = psutil.Process(process.pid)
            family = [process.pid, *(p.pid for p in whole.children(recursive=True))]
        except psutil.Error:
            break
        for pid in family:
            now, peak = memory(pid), found.setdefault(pid, dict.fromkeys(_KINDS, 0.0))
            found[pid] = {kind: max(peak[kind], now.get(kind, 0.0)) for kind in _KINDS}
        time.sleep(0.1)
    return found


def memory(pid: int) -> dict[str, float]:
    """MB now, by kind; nothing of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines if line.endswith("kB")]
    return {name.rstrip(":"): int(size) / 1024 for name, size, _ in parts}


def show(name: str, peak: dict[str, float]) -> None:
    print(f"{name:42}" + "".join(f"{peak[kind]:11.0f}" for kind in _KINDS), flush=True)


if __name__ == "__main__":
    main()
