"""The exact gradient flow: solve, resume, stops, schedules, solutions."""

from .checkpoint_files import ForeignCheckpoint
from .checkpoints import Checkpoints
from .dataset import dataset
from .dynamics import (
    Adam,
    CentralFlow,
    CentralRMSProp,
    GradientFlow,
    HeavyBall,
    LogLoss,
    Nesterov,
    RMSProp,
)
from .ensemble import solve_each
from .gather import gather
from .graph_history import stored_lifetimes
from .methods import AUTO
from .named import SOLVERS
from .observers import AbstractObserver
from .outcome import FlowError, FlowInterrupted, Outcome
from .progress import Progress
from .rates import Power, Rates, rates_at
from .refusals import check_settings
from .rewired import Rewired
from .rewiring import Change, rewire
from .schedule import LogTimes
from .solution import FlowSolution, FlowStats
from .solve import ATOL, RTOL, resume, solve
from .solve_rewired import solve_rewired
from .stops import AbstractRule, GradientNormBelow, LogLossBelow, LossBelow, Stagnation
from .trajectory import Trajectory, trajectory

__all__ = [
    "ATOL",
    "AUTO",
    "RTOL",
    "SOLVERS",
    "AbstractObserver",
    "AbstractRule",
    "Adam",
    "CentralFlow",
    "CentralRMSProp",
    "Change",
    "Checkpoints",
    "FlowError",
    "FlowInterrupted",
    "FlowSolution",
    "FlowStats",
    "ForeignCheckpoint",
    "GradientFlow",
    "GradientNormBelow",
    "HeavyBall",
    "LogLoss",
    "LogLossBelow",
    "LogTimes",
    "LossBelow",
    "Nesterov",
    "Outcome",
    "Power",
    "Progress",
    "RMSProp",
    "Rates",
    "Rewired",
    "Stagnation",
    "Trajectory",
    "check_settings",
    "dataset",
    "gather",
    "rates_at",
    "resume",
    "rewire",
    "solve",
    "solve_each",
    "solve_rewired",
    "stored_lifetimes",
    "trajectory",
]
