"""What a study consists of: runs with an identity, gathered into cells."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator

from .study import Study
from .study_file import plain

SCHEMA = 1
# What names a run or plans the work, but determines no number of a run.
_NOT_IN_A_RUN = ("name", "seeds", "first_seed", "chunk")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs of one shape, a few seeds: one compilation serves them, one file keeps them.

    Attributes:
        size: the lift size.
        seeds: the seeds.
        runs: the identities of the runs, one per seed.
    """

    size: int
    seeds: tuple[int, ...]
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The cell's own identity: a hash of its runs'."""
        return _hash(list(self.runs))

    @property
    def cost(self) -> int:
        """Expected work, in copies x flows, for the time left."""
        return self.size * len(self.seeds)


def run_identity(study: Study, size: int, seed: int) -> str:
    """A hash of all that determines the numbers of a run, and of nothing else.

    Versions, device, host and dates are recorded beside a run, not in its identity.

    Args:
        study: the study.
        size: the lift size.
        seed: the seed of graph and weights.

    Returns:
        16 hexadecimal digits.
    """
    return _hash(_common_record(study) | {"size": size, "seed": seed})


def cells(
    study: Study, done: Collection[str] = (), shard: tuple[int, int] = (0, 1)
) -> Iterator[Cell]:
    """The cells of a study that hold the runs not yet done, size by size.

    Args:
        study: the study.
        done: identities of finished runs.
        shard: (i, n) keeps the i-th of n disjoint parts, i < n; a run's part follows from its
            identity alone.

    Yields:
        Cells of at most `chunk` seeds.
    """
    common, (index, part) = _common_record(study), shard
    for size in study.lift.sizes:
        runs = ((seed, _hash(common | {"size": size, "seed": seed})) for seed in study.all_seeds)
        here = [(s, run) for s, run in runs if run not in done and int(run, 16) % part == index]
        for first in range(0, len(here), study.chunk):
            seeds, identities = zip(*here[first : first + study.chunk], strict=True)
            yield Cell(size, seeds, identities)


def _common_record(study: Study) -> dict:
    record = plain(study)
    for key in _NOT_IN_A_RUN:
        del record[key]
    del record["lift"]["sizes"]
    return record | {"schema": SCHEMA}


def _hash(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
