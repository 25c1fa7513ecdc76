"""Flows of the parameters: the gradient flow, and those with momentum, averages, other clocks."""

from .base import AbstractDynamics, GradientFlow, Rates
from .momentum import HeavyBall, Nesterov

__all__ = ["AbstractDynamics", "GradientFlow", "HeavyBall", "Nesterov", "Rates"]
