"""Solvers side by side on one flow: work against achieved error."""

from .compare_study import compare_on_study
from .curves import Curve, compare, comparison_table

__all__ = ["Curve", "compare", "compare_on_study", "comparison_table"]
