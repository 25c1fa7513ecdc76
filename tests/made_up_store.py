"""Stores with cells of made-up numbers: whatever a store does with cells needs no flow."""

import numpy as np
import xarray

from flowlift import studies
from flowlift.store import cells as files
from flowlift.studies import grid

TIMES = np.array([0.0, 1.0, 2.0, 5.0])
HORIZON = "horizon"
# The variables that a store itself reads, and one record along the flow.
TEXTS = {"result": HORIZON, "reason": "", "ended": "2026-01-01T00:00:00.000+00:00"}
TEXTS |= {"host": "here", "versions": "flowlift 0"}
ALONG = ("loss",)
ENDS = ("final_loss", "end_time", "seconds")


def number(run: str) -> float:
    """In (0, 1), from the identity of a run: no two runs share it."""
    return (int(run, 16) + 1) / 2.0**64


def made_up_cell(cell: grid.Cell, **texts: str) -> xarray.Dataset:
    """What a worker would have stored: every number of a run is `number` of its identity."""
    seeds = len(cell.seeds)
    numbers = np.array([[number(run) for run in cell.runs]])
    attrs = {"units": "1", "long_name": "made up"}
    along = dict.fromkeys(ALONG, (("size", "seed", "time"), numbers[..., None] ** TIMES, attrs))
    ends = dict.fromkeys(ENDS, (("size", "seed"), numbers, attrs))
    words = {
        name: (("size", "seed"), np.full((1, seeds), text), attrs)
        for name, text in (TEXTS | texts).items()
    }
    words["run"] = (("size", "seed"), np.array([cell.runs]), attrs)
    coords = {"size": [cell.size], "seed": list(cell.seeds), "time": TIMES}
    given = {"schema": grid.SCHEMA, "version_flowlift": "0", "title": "made up"}
    return xarray.Dataset(along | ends | words, coords, given)


def made_up_store(study: studies.Study, folder) -> list[grid.Cell]:
    """A store in which all runs of a study are done."""
    files.write_study(study, folder)
    cells = list(grid.cells(study))
    for cell in cells:
        files.write_cell(made_up_cell(cell), cell, folder)
    return cells
