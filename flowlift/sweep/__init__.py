"""Who computes the runs of a study: this process, spawned workers, a cluster.

What a worker imports first, and the executors, are of the standard library alone: workers import
the rest while their master does.
"""

from typing import TYPE_CHECKING

import lazy_loader

from .dask_executor import WorkersLost
from .executors import dask_workers, executor_of, spawned_workers

if TYPE_CHECKING:
    from .cell import model_maker, run_cell
    from .checking import check_study
    from .estimate import Forecast, forecast
    from .run import complete_study, run_study
    from .schedules import rewiring_times
    from .sequential import Spent, coverage_after_stopping, run_until
    from .tolerance import check_tolerance, compare_tolerances, tolerance_floor, tolerances_there

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=[
        "cell",
        "certification",
        "dispatch",
        "estimate",
        "progress",
        "rewiring",
        "run",
        "schedules",
        "sequential",
        "tolerance",
        "work",
    ],
    submod_attrs={
        "cell": ["model_maker", "run_cell"],
        "checking": ["check_study"],
        "estimate": ["Forecast", "forecast"],
        "run": ["complete_study", "run_study"],
        "schedules": ["rewiring_times"],
        "sequential": ["Spent", "coverage_after_stopping", "run_until"],
        "tolerance": [
            "check_tolerance",
            "compare_tolerances",
            "tolerance_floor",
            "tolerances_there",
        ],
    },
)

__all__ = [
    "Forecast",
    "Spent",
    "WorkersLost",
    "check_study",
    "check_tolerance",
    "compare_tolerances",
    "complete_study",
    "coverage_after_stopping",
    "dask_workers",
    "executor_of",
    "forecast",
    "model_maker",
    "rewiring_times",
    "run_cell",
    "run_study",
    "run_until",
    "spawned_workers",
    "tolerance_floor",
    "tolerances_there",
]


def __dir__() -> list[str]:
    # That of lazy_loader names what is lazy alone, and help() shows what this names.
    return sorted({*globals(), *__all__})
