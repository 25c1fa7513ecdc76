"""Which runs the study that was run last consists of, so that a status need not build it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import read_bytes, write_text
from ..studies.rows import Row
from .names import PLAN


def write_plan(directory: Path, name: str, rows: Iterable[Row]) -> None:
    """Write the plan of a study.

    Args:
        directory: the store.
        name: the study's name.
        rows: its runs.
    """
    record = {"study": name, "rows": [vars(row) for row in rows]}
    write_text(directory / PLAN, json.dumps(record))


def read_plan(directory: Path) -> tuple[str, list[Row]] | None:
    """The plan of the study that was run last.

    Args:
        directory: the store.

    Returns:
        The study's name and its rows; None if the store is older than plans, or the file is torn.
    """
    try:
        record = json.loads(read_bytes(directory / PLAN) or b"")
        return str(record["study"]), [_row(raw) for raw in record["rows"]]
    except (ValueError, KeyError, TypeError):
        return None


def _row(raw: dict[str, Any]) -> Row:
    variant = tuple((key, value) for key, value in raw["variant"])
    return Row(variant, raw["size"], tuple(raw["seeds"]), tuple(raw["runs"]))
