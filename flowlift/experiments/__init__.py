"""From one flow to a study: typed study files, cells of runs, results on disk, tables."""

from .cell import cell_name, check_study, run_cell
from .run import run_study
from .store import load
from .study import FlowPlan, LiftPlan, Study
from .study_file import read_study, structure_study, to_toml
from .summary import as_text, summary

__all__ = [
    "FlowPlan",
    "LiftPlan",
    "Study",
    "as_text",
    "cell_name",
    "check_study",
    "load",
    "read_study",
    "run_cell",
    "run_study",
    "structure_study",
    "summary",
    "to_toml",
]
