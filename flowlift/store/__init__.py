"""What is on disk: one file per finished cell, and what a store knows of itself.

Everything but cells and exports is of the standard library alone: `flowlift status` answers
without JAX or xarray.
"""

from typing import TYPE_CHECKING

import lazy_loader

from .claims import Claim, Holder, claimed_by_others, claims, clear_dead
from .damage import Damage, damages
from .entry import Entry
from .index import append, latest, read_index, unread
from .plan import read_plan, write_plan
from .rates import Rates, duration
from .status import Status, as_text, status

if TYPE_CHECKING:
    from .cells import StoreError
    from .gathering import NothingStored, load, remarks
    from .tables import along_table, export, runs_table

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["cells", "gathering", "tables"],
    submod_attrs={
        "cells": ["StoreError"],
        "gathering": ["NothingStored", "load", "remarks"],
        "tables": ["along_table", "export", "runs_table"],
    },
)

__all__ = [
    "Claim",
    "Damage",
    "Entry",
    "Holder",
    "NothingStored",
    "Rates",
    "Status",
    "StoreError",
    "along_table",
    "append",
    "as_text",
    "claimed_by_others",
    "claims",
    "clear_dead",
    "damages",
    "duration",
    "export",
    "latest",
    "load",
    "read_index",
    "read_plan",
    "remarks",
    "runs_table",
    "status",
    "unread",
    "write_plan",
]


def __dir__() -> list[str]:
    # That of lazy_loader names what is lazy alone, and help() shows what this names.
    return sorted({*globals(), *__all__})
