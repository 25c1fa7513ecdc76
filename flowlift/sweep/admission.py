"""What a study's plan would take, estimated before anything is built, and refused if too much."""

import math

from ..doing import doing
from ..memory import check_memory
from ..numbers import real
from ..studies.records import Study
from ..studies.toml import axis_values, overwritten, variants

# A planned run: its identity, seed, place in a cell and line of the plan; 310 measured.
_BYTES_PER_RUN = 300
# Numbers that are kept for each run and save time.
_RECORDS = 7
# Planning takes 6 us a run and 3 ms a combination of further axes that differ in their flow, as
# measured on 2 million runs and 10,000 combinations; an hour of that is as good as never.
_SECONDS_PER_RUN, _SECONDS_PER_POINT, _PATIENCE = 6e-6, 3e-3, 3600.0


def check_every(every: float) -> None:
    """Refuse an interval of writing that is no time.

    Args:
        every: seconds; 0 for after each run, infinite for once at the end.

    Raises:
        ValueError: if it is negative or no number.
    """
    seconds = real(every)
    if seconds is None or not seconds >= 0:
        raise ValueError(
            f"Argument `every` must be a number of seconds of at least 0, but is {every!r}; give "
            "e.g. 60."
        )


def check_grid(study: Study) -> None:
    """Refuse a grid whose plan or results exceed the machine, before anything of it is built.

    Modules, tasks, lifts and save times are refused by those who build them. What a user's own
    function builds is not estimated: nobody knows before it runs.

    Args:
        study: the study.

    Raises:
        ValueError: with the estimate; or if one axis assigns over another.
    """
    found = overwritten(study)
    if found is not None:
        raise ValueError(
            "Arguments `vary` and `alternatives` must give axes that leave one another's keys "
            f"alone, but the axis `{found[1]}` assigns `{found[2]}` over what the axis "
            f"`{found[0]}` gives it; drop it from one of them."
        )
    points = math.prod(len(values) for values in axis_values(study).values())
    _check_patience("vary", points, _SECONDS_PER_POINT, "combinations of further axes")
    runs, numbers = 0, 0
    for number, (_, variant) in enumerate(variants(study)):
        with doing("sizing the grid", number, points if points > 1 else 0):
            here = sum(_length(variant.seeds_of(size)) for size in variant.all_sizes)
            runs, numbers = runs + here, numbers + here * _RECORDS * _times(variant)
    check_memory("seeds", study.seeds, runs * _BYTES_PER_RUN, f"a plan of {runs} runs")
    check_memory("seeds", study.seeds, numbers * 8, f"{numbers} numbers in the records of all runs")
    _check_patience("seeds", runs, _SECONDS_PER_RUN, "runs")


def _length(seeds: range) -> int:
    # `len` overflows beyond 2^63 - 1.
    return seeds.stop - seeds.start


def _times(variant: Study) -> int:
    """How many save times; none where `check_study` will refuse the horizon."""
    horizon = variant.flow.horizon
    return 1 + len(variant.flow.schedule.times(horizon)) if 0 < horizon < math.inf else 0


def _check_patience(argument: str, count: int, seconds: float, what: str) -> None:
    if count * seconds > _PATIENCE:
        raise ValueError(
            f"Argument `{argument}` must give a grid that is listed within an hour, but "
            f"{count} {what} take about {count * seconds / 3600:.2g} hours; lower it."
        )
