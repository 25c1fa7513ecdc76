"""What diffrax lacks for gradient flow; nothing here knows of networks."""

from .exprb import ExpRosenbrock
from .predictive import Estimate, PredictiveController
from .rkc import RKC2
from .spectral import RitzPairs, SpectralEnds, generic_vector, ritz_pairs, spectral_ends
from .work import Halt, StepReport, Work, WorkController, WorkState

__all__ = [
    "RKC2",
    "Estimate",
    "ExpRosenbrock",
    "Halt",
    "PredictiveController",
    "RitzPairs",
    "SpectralEnds",
    "StepReport",
    "Work",
    "WorkController",
    "WorkState",
    "generic_vector",
    "ritz_pairs",
    "spectral_ends",
]
