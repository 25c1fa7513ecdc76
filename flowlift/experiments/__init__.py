"""From one flow to a study: typed study files, cells of runs, results on disk, tables."""

from .cell import check_study, run_cell
from .compare import Curve, compare, comparison_table
from .compare_study import compare_on_study
from .grid import Cell, cells, run_identity
from .observations import ObservationPlan
from .power_law import PowerLaw, power_law
from .probability import (
    LearningNumber,
    half_width,
    learning_number,
    paired_difference,
    success_probability,
    survival,
)
from .run import run_study
from .store import load
from .study import FlowPlan, LiftPlan, Study
from .study_file import read_study, structure_study, to_toml
from .summary import as_text, further_axes, summary
from .verdicts import converged, there, time_to_loss
from .workers import spawned_workers

__all__ = [
    "Cell",
    "Curve",
    "FlowPlan",
    "LearningNumber",
    "LiftPlan",
    "ObservationPlan",
    "PowerLaw",
    "Study",
    "as_text",
    "cells",
    "check_study",
    "compare",
    "compare_on_study",
    "comparison_table",
    "converged",
    "further_axes",
    "half_width",
    "learning_number",
    "load",
    "paired_difference",
    "power_law",
    "read_study",
    "run_cell",
    "run_identity",
    "run_study",
    "spawned_workers",
    "structure_study",
    "success_probability",
    "summary",
    "survival",
    "there",
    "time_to_loss",
    "to_toml",
]
