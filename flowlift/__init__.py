"""flowlift: exact gradient flow for random sparse lifts of small networks, and any equinox model.

A study is one straight line: a perceptron module (`flowlift.modules`), a random sparse lift of it
(`sample`), a task (`flowlift.tasks`), the flow d theta/dt = -grad L (`solve`), a picture
(`flowlift.plot`). Flows run in float64: call jax.config.update("jax_enable_x64", True) first.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        answers,
        compare,
        diagnostics,
        flow,
        kernels,
        lift,
        modules,
        plot,
        solvers,
        store,
        studies,
        sweep,
        tasks,
    )
    from .flow import (
        FlowSolution,
        GradientNormBelow,
        LogTimes,
        LossBelow,
        Outcome,
        Stagnation,
        Trajectory,
        gather,
        resume,
        solve,
        trajectory,
    )
    from .lift import BernoulliInDegree, Complete, FixedInDegree, Lift, sample
    from .registry import register
    from .sweep.experiment import study

__version__ = "0.1.0"

# Loaded on first use: the command line answers `--help` without importing JAX.
_HOME = {
    **dict.fromkeys(
        [
            "FlowSolution",
            "GradientNormBelow",
            "LogTimes",
            "LossBelow",
            "Outcome",
            "Stagnation",
            "Trajectory",
            "gather",
            "resume",
            "solve",
            "trajectory",
        ],
        "flow",
    ),
    **dict.fromkeys(["BernoulliInDegree", "Complete", "FixedInDegree", "Lift", "sample"], "lift"),
    "register": "registry",
    "study": "sweep.experiment",
}
_ROOMS = frozenset(
    {"answers", "compare", "diagnostics", "flow", "kernels", "lift", "modules"}
    | {"plot", "solvers", "store", "studies", "sweep", "tasks"}
)

__all__ = [
    "BernoulliInDegree",
    "Complete",
    "FixedInDegree",
    "FlowSolution",
    "GradientNormBelow",
    "Lift",
    "LogTimes",
    "LossBelow",
    "Outcome",
    "Stagnation",
    "Trajectory",
    "answers",
    "compare",
    "diagnostics",
    "flow",
    "gather",
    "kernels",
    "lift",
    "modules",
    "plot",
    "register",
    "resume",
    "sample",
    "solve",
    "solvers",
    "store",
    "studies",
    "study",
    "sweep",
    "tasks",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
