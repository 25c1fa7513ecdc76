"""What diffrax lacks for gradient flow; nothing here knows of networks."""

from .work import Halt, StepReport, Work, WorkController, WorkState

__all__ = ["Halt", "StepReport", "Work", "WorkController", "WorkState"]
