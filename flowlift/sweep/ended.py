"""What is kept of a run beside its flow: how it ended, why, when, where, and how long it took."""

import datetime
import math
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..flow import Checkpoints, FlowSolution, Outcome
from ..flow.dataset import Variables
from ..store.names import CHECKPOINTS
from ..store.schema import BESIDE, counts_as_failed
from .cell import Bench, describe, versions
from .rewiring import known_of

_TIMES = {
    "run_seconds": {"long_name": "wall time of the run, all included", "units": "s"},
    "compile_seconds": {"long_name": "of that, tracing and compiling", "units": "s"},
}
# Of a run of which nobody knows how long it took.
UNKNOWN = (math.nan, math.nan)


def reason_of(solution: FlowSolution) -> str:
    """Why a run counts as failed; empty where it does not.

    Args:
        solution: its flow.

    Returns:
        A sentence.
    """
    return solution.message if counts_as_failed(solution.result.value) else ""


def failed(
    bench: Bench,
    facts: Mapping[str, Any],
    error: Exception,
    checkpoints: Checkpoints,
    seconds: float,
) -> tuple[Variables, FlowSolution, str]:
    """A run that an exception ended.

    Args:
        bench: its cell.
        facts: what is known of its lift.
        error: the exception.
        checkpoints: the file that kept where it stood.
        seconds: how long it took.

    Returns:
        What is kept of it, its flow, and the reason.
    """
    outcome = Outcome.OUT_OF_MEMORY if _is_memory(error) else Outcome.EXCEPTION
    solution, history = known_of(bench.study, checkpoints, outcome)
    data = describe(bench.study, facts, solution, history)
    data["seconds"] = ((), seconds, data["seconds"][2])
    return data, solution, f"{type(error).__name__}: {error}".partition("\n")[0]


def with_times(data: Variables, reason: str, took: Sequence[float]) -> Variables:
    """What is kept of a run, with what stands beside its numbers.

    Args:
        data: the numbers.
        reason: why it failed; empty if it did not.
        took: its wall time, and how much of that was compiling.

    Returns:
        Both.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    texts = {"reason": reason, "ended": now, "host": socket.gethostname(), "versions": versions()}
    times = {n: ((), t, a) for (n, a), t in zip(_TIMES.items(), took, strict=True)}
    return data | times | {k: ((), np.asarray(v), BESIDE[k]) for k, v in texts.items()}


def checkpoint_of(directory: Path, run: str) -> Path:
    """The file that keeps where a run stands.

    Args:
        directory: the folder of results.
        run: its identity.

    Returns:
        The path.
    """
    return directory / CHECKPOINTS / f"{run}.npz"


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
