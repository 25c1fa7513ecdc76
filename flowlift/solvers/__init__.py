"""What diffrax lacks for gradient flow; nothing here knows of networks."""

from .bdf import BDF
from .complementarity import Complementary, complementary
from .counting import Counting, Uncountable, counted, evaluation
from .exprb import ExpRosenbrock
from .lanczos import generic_vector
from .parts import live_part, live_scale
from .predictive import Estimate, PredictiveController
from .proposals import Proposal, ProposedSteps
from .rkc import RKC2
from .spectral import RitzPairs, SpectralEnds, ritz_pairs, spectral_ends
from .work import Halt, StepReport, Work, WorkController, WorkState

__all__ = [
    "BDF",
    "RKC2",
    "Complementary",
    "Counting",
    "Estimate",
    "ExpRosenbrock",
    "Halt",
    "PredictiveController",
    "Proposal",
    "ProposedSteps",
    "RitzPairs",
    "SpectralEnds",
    "StepReport",
    "Uncountable",
    "Work",
    "WorkController",
    "WorkState",
    "complementary",
    "counted",
    "evaluation",
    "generic_vector",
    "live_part",
    "live_scale",
    "ritz_pairs",
    "spectral_ends",
]
