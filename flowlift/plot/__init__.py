"""Figures: pure functions (data, ax=None) -> ax, one a file."""

from .base_graph import base_graph
from .lift_graph import lift_graph
from .loss_vs_size import loss_vs_size
from .loss_vs_time import loss_vs_time
from .save import save_comparison, save_figures
from .scaling import scaling
from .style import caption
from .success_vs_size import success_vs_size
from .work_precision import work_precision

__all__ = [
    "base_graph",
    "caption",
    "lift_graph",
    "loss_vs_size",
    "loss_vs_time",
    "save_comparison",
    "save_figures",
    "scaling",
    "success_vs_size",
    "work_precision",
]
