"""A study: everything that determines its numbers, as records, as TOML, as a grid of runs.

Loaded on first use: what a store knows of itself needs the standard library alone.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .grid import Cell as Cell
    from .grid import cells as cells
    from .grid import run_identity as run_identity
    from .observations import ObservationPlan as ObservationPlan
    from .records import FlowPlan as FlowPlan
    from .records import LiftPlan as LiftPlan
    from .records import Question as Question
    from .records import Study as Study
    from .rewire_plan import RewirePlan as RewirePlan
    from .toml import read_study as read_study
    from .toml import structure_study as structure_study
    from .toml import to_toml as to_toml

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["grid", "kinds", "observations", "records", "rows", "toml"],
    submod_attrs={
        "grid": ["Cell", "cells", "run_identity"],
        "observations": ["ObservationPlan"],
        "records": ["FlowPlan", "LiftPlan", "Question", "Study"],
        "rewire_plan": ["RewirePlan"],
        "toml": ["read_study", "structure_study", "to_toml"],
    },
)
