"""Figures: pure functions (data, ax=None) -> ax, one a file."""

from .base_graph import base_graph
from .figures import figures
from .landscape import landscape
from .lift_graph import lift_graph
from .loss_vs_size import loss_vs_size
from .loss_vs_time import loss_vs_time
from .outcome_shares import outcome_shares
from .paired_losses import paired_losses
from .report import report, write_report
from .save import save_comparison, save_figures
from .scaling import scaling
from .spectra_vs_time import spectra_vs_time
from .steps_and_flows import steps_and_flows
from .style import caption, caption_of, paper
from .success_map import success_map
from .success_matrix import success_matrix
from .success_vs_size import success_vs_size
from .survival_vs_time import survival_vs_time
from .work_precision import work_precision

__all__ = [
    "base_graph",
    "caption",
    "caption_of",
    "figures",
    "landscape",
    "lift_graph",
    "loss_vs_size",
    "loss_vs_time",
    "outcome_shares",
    "paired_losses",
    "paper",
    "report",
    "save_comparison",
    "save_figures",
    "scaling",
    "spectra_vs_time",
    "steps_and_flows",
    "success_map",
    "success_matrix",
    "success_vs_size",
    "survival_vs_time",
    "work_precision",
    "write_report",
]
