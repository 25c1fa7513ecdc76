"""Before JAX is imported: 64-bit numbers, one BLAS thread, lean compilation, types checked."""

import gc
import os
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

# Two workers with a thread pool each fight for the cores, by a factor of thirty.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of the tests' time is XLA's. Tiny problems need no fast code: without optimisation and fusion
# it compiles in less than half the time. FLOWLIFT_TEST_XLA=default tests what users run.
if os.environ.get("FLOWLIFT_TEST_XLA", "lean") == "lean":
    lean = "--xla_backend_optimization_level=0"
    # A flag that XLA does not know ends the process, and later ones do not know this.
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        lean += " --xla_cpu_use_fusion_emitters=false"
    # One module of machine code per program: they are too small to be split among threads.
    lean += " --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {lean}".strip()
# An error inside of a compiled function is a host callback, and such a program is not kept on disk.
os.environ.setdefault("EQX_ON_ERROR", "nan")
# One cache of compiled programs for all workers and all processes that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    session = tempfile.TemporaryDirectory(prefix="flowlift-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = session.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
sys.path.insert(0, str(Path(__file__).parent))

from jaxtyping import install_import_hook

# Where arrays flow. Elsewhere arguments of wrong types must meet our own refusals.
_CHECKED = [
    "flowlift.kernels",
    "flowlift.solvers",
    "flowlift.lift.lift",
    "flowlift.flow.legs",
    "flowlift.flow.problem",
    "flowlift.tasks.losses",
]
install_import_hook(_CHECKED, "typechecker.check")
# Tracing makes many objects and few cycles. At Python's threshold of 700 a ninth of the tests' time
# goes into looking for cycles, most of it through what never dies: modules and traced programs.
gc.set_threshold(20_000, 20, 20)

# Few tests, in processes of their own, that take as long as a hundred others.
_LONG = ("test_sharding.py", "test_snippets.py")


def pytest_collection_modifyitems(items):
    """Long files first: no worker shall be left with one when the other has nothing to do."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in _LONG, -tests[item.path]))


def pytest_collection_finish():
    """What is imported by now stays, and is looked through no more."""
    gc.freeze()
