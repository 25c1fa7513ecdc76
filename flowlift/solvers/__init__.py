"""What diffrax lacks for gradient flow; nothing here knows of networks."""

from .bdf import BDF
from .proposals import Proposal, ProposedSteps
from .work import Halt, StepReport, Work, WorkController, WorkState

__all__ = [
    "BDF",
    "Halt",
    "Proposal",
    "ProposedSteps",
    "StepReport",
    "Work",
    "WorkController",
    "WorkState",
]
