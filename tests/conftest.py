"""Before JAX is imported: 64-bit numbers, one BLAS thread, types checked at run time."""

import os
import sys
from pathlib import Path

# Two workers with a thread pool each fight for the cores, by a factor of thirty.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
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
