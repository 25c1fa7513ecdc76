"""`make test-gpu`: the tests marked gpu, then the kernel benchmark, where JAX sees a GPU."""

import subprocess
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
BENCHMARK = ["benchmarks/kernels.py", "--n", "2048", "65536", "--k", "8", "--samples", "256"]


def main() -> int:
    """Return the first exit status that is not 0, and 0 without a GPU."""
    try:
        found = jax.devices("gpu")
    except RuntimeError:
        print("No GPU: JAX sees none, so neither the tests marked gpu nor the benchmark were run.")
        return 0
    print(f"GPU: {found[0].device_kind}", flush=True)
    for command in (["-m", "pytest", "-m", "gpu", "tests"], [*BENCHMARK, "--dtype", "float32"]):
        if status := subprocess.call([sys.executable, *command], cwd=ROOT):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
