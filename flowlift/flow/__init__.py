"""The exact gradient flow: solve, resume, stops, schedules, solutions."""

from .checkpoints import Checkpoints, ForeignCheckpoint
from .dataset import dataset
from .ensemble import solve_each
from .gather import gather
from .methods import AUTO
from .named import SOLVERS
from .observers import AbstractObserver
from .outcome import FlowError, Outcome
from .rates import Power, Rates, rates_at
from .schedule import LogTimes
from .solution import FlowSolution, FlowStats
from .solve import ATOL, RTOL, check_settings, resume, solve
from .stops import AbstractRule, GradientNormBelow, LossBelow, Stagnation
from .trajectory import Trajectory, trajectory

__all__ = [
    "ATOL",
    "AUTO",
    "RTOL",
    "SOLVERS",
    "AbstractObserver",
    "AbstractRule",
    "Checkpoints",
    "FlowError",
    "FlowSolution",
    "FlowStats",
    "ForeignCheckpoint",
    "GradientNormBelow",
    "LogTimes",
    "LossBelow",
    "Outcome",
    "Power",
    "Rates",
    "Stagnation",
    "Trajectory",
    "check_settings",
    "dataset",
    "gather",
    "rates_at",
    "resume",
    "solve",
    "solve_each",
    "trajectory",
]
