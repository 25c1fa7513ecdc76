"""From one flow to a study: typed study files, cells of runs, results on disk, tables."""

from ..workers import dask_workers, spawned_workers
from .answers import (
    Answer,
    answers,
    in_words,
    parts_of,
    question_of,
    study_of,
    variant_name,
    variant_studies,
)
from .approximation import Approximation, best_seen, planted_witness
from .cell import check_study, run_cell
from .compare import Curve, compare, comparison_table
from .compare_study import compare_on_study
from .export import along_table, export, runs_table
from .forecast import Forecast, forecast
from .grid import Cell, cells, run_identity
from .learning import LearningNumber, learning_number
from .log_log_line import LogLogLine, log_log_line
from .logistic import LogisticCrossing, logistic_crossing
from .observations import ObservationPlan
from .power_law import PowerLaw, fit_power_law, power_law
from .probability import (
    half_width,
    paired_comparisons,
    paired_difference,
    probability_table,
    success_probability,
    survival,
)
from .run import run_study
from .sequential import Spent, coverage_after_stopping, run_until
from .store import StoreError, load
from .study import FlowPlan, LiftPlan, Question, Study
from .study_file import read_study, structure_study, to_toml
from .summary import as_text, by_variant, further_axes, summary
from .tolerance import check_tolerance, compare_tolerances, tolerance_floor, tolerances_there
from .verdicts import converged, outcomes, there, time_to_loss

__all__ = [
    "Answer",
    "Approximation",
    "Cell",
    "Curve",
    "FlowPlan",
    "Forecast",
    "LearningNumber",
    "LiftPlan",
    "LogLogLine",
    "LogisticCrossing",
    "ObservationPlan",
    "PowerLaw",
    "Question",
    "Spent",
    "StoreError",
    "Study",
    "along_table",
    "answers",
    "as_text",
    "best_seen",
    "by_variant",
    "cells",
    "check_study",
    "check_tolerance",
    "compare",
    "compare_on_study",
    "compare_tolerances",
    "comparison_table",
    "converged",
    "coverage_after_stopping",
    "dask_workers",
    "export",
    "fit_power_law",
    "forecast",
    "further_axes",
    "half_width",
    "in_words",
    "learning_number",
    "load",
    "log_log_line",
    "logistic_crossing",
    "outcomes",
    "paired_comparisons",
    "paired_difference",
    "parts_of",
    "planted_witness",
    "power_law",
    "probability_table",
    "question_of",
    "read_study",
    "run_cell",
    "run_identity",
    "run_study",
    "run_until",
    "runs_table",
    "spawned_workers",
    "structure_study",
    "study_of",
    "success_probability",
    "summary",
    "survival",
    "there",
    "time_to_loss",
    "to_toml",
    "tolerance_floor",
    "tolerances_there",
    "variant_name",
    "variant_studies",
]
