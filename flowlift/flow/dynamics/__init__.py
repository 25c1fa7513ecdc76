"""Flows of the parameters: the gradient flow, and those with momentum, averages, other clocks."""

from .adaptive import Adam, RMSProp
from .base import AbstractDynamics, GradientFlow, Rates
from .central import CentralFlow, CentralRMSProp
from .log_loss import LogLoss
from .momentum import HeavyBall, Nesterov

__all__ = [
    "AbstractDynamics",
    "Adam",
    "CentralFlow",
    "CentralRMSProp",
    "GradientFlow",
    "HeavyBall",
    "LogLoss",
    "Nesterov",
    "RMSProp",
    "Rates",
]
