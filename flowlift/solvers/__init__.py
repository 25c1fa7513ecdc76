"""What diffrax lacks for gradient flow; nothing here knows of networks."""

from .bdf import BDF
from .lanczos import Lanczos, random_like
from .proposals import Proposal, ProposedSteps
from .work import Halt, StepReport, Work, WorkController, WorkState

__all__ = [
    "BDF",
    "Halt",
    "Lanczos",
    "Proposal",
    "ProposedSteps",
    "StepReport",
    "Work",
    "WorkController",
    "WorkState",
    "random_like",
]
