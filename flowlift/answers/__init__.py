"""Statistics and questions, on results that are there: no flow is computed here."""

from .approximation import Approximation, best_seen, planted_witness
from .crossing import LogisticCrossing, logistic_crossing
from .divergence import divergence, evidence
from .learning import LearningNumber, learning_number, not_observed_in_words
from .log_log_line import LogLogLine, log_log_line
from .power_law import PowerLaw, fit_power_law, power_law
from .probability import (
    half_width,
    paired_comparisons,
    paired_difference,
    probability_table,
    success_probability,
)
from .questions import (
    Answer,
    answers,
    in_words,
    parts_of,
    question_of,
    study_of,
    variant_name,
    variant_studies,
)
from .summary import as_text, by_variant, further_axes, summary
from .survival import survival
from .verdicts import (
    common_end,
    converged,
    known_times,
    last_known,
    outcomes,
    there,
    time_to_loss,
    verdicts,
)

__all__ = [
    "Answer",
    "Approximation",
    "LearningNumber",
    "LogLogLine",
    "LogisticCrossing",
    "PowerLaw",
    "answers",
    "as_text",
    "best_seen",
    "by_variant",
    "common_end",
    "converged",
    "divergence",
    "evidence",
    "fit_power_law",
    "further_axes",
    "half_width",
    "in_words",
    "known_times",
    "last_known",
    "learning_number",
    "log_log_line",
    "logistic_crossing",
    "not_observed_in_words",
    "outcomes",
    "paired_comparisons",
    "paired_difference",
    "parts_of",
    "planted_witness",
    "power_law",
    "probability_table",
    "question_of",
    "study_of",
    "success_probability",
    "summary",
    "survival",
    "there",
    "time_to_loss",
    "variant_name",
    "variant_studies",
    "verdicts",
]
