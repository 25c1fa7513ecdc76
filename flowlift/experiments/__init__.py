"""From one flow to a study: typed study files, cells of runs, results on disk, tables."""

from .cell import check_study, run_cell
from .grid import Cell, cells, run_identity
from .run import run_study
from .store import load
from .study import FlowPlan, LiftPlan, Study
from .study_file import read_study, structure_study, to_toml
from .summary import as_text, summary
from .workers import spawned_workers

__all__ = [
    "Cell",
    "FlowPlan",
    "LiftPlan",
    "Study",
    "as_text",
    "cells",
    "check_study",
    "load",
    "read_study",
    "run_cell",
    "run_identity",
    "run_study",
    "spawned_workers",
    "structure_study",
    "summary",
    "to_toml",
]
