"""Solvers side by side on one flow: work against achieved error; and optimisers beside flows."""

from .compare_study import compare_on_study
from .curves import Curve, compare, comparison_table
from .optimisers import Optimiser, adam, gradient_descent, momentum, rmsprop
from .steps import compare_with_steps

__all__ = [
    "Curve",
    "Optimiser",
    "adam",
    "compare",
    "compare_on_study",
    "compare_with_steps",
    "comparison_table",
    "gradient_descent",
    "momentum",
    "rmsprop",
]
