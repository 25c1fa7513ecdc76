"""What a study consists of: runs with an identity, gathered into cells."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator

from .study import Study, Value
from .study_file import plain, variants

SCHEMA = 1
# What names a run or plans the work, but determines no number of a run.
_NOT_IN_A_RUN = ("name", "seeds", "first_seed", "chunk", "vary", "quick", "question")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs of one shape, a few seeds: one compilation serves them, one file keeps them.

    Attributes:
        variant: values along the study's further axes, by dotted key.
        size: the lift size.
        seeds: the seeds.
        runs: the identities of the runs, one per seed.
    """

    variant: tuple[tuple[str, Value], ...]
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

    def __str__(self) -> str:
        """What distinguishes the cell, for a line of progress."""
        axes = "".join(f"{key} = {value}, " for key, value in self.variant)
        return f"{axes}n = {self.size}, seeds {self.seeds[0]} to {self.seeds[-1]}"


def run_identity(study: Study, size: int, seed: int) -> str:
    """A hash of all that determines the numbers of a run, and of nothing else.

    Versions, device, host and dates are recorded beside a run, not in its identity.

    Args:
        study: the study, without further axes.
        size: the lift size.
        seed: the seed of graph and weights.

    Returns:
        16 hexadecimal digits.
    """
    return _identity(_common_record(study), size, seed)


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
    index, parts = shard
    for assignments, variant in variants(study):
        common, axes = _common_record(variant), tuple(assignments.items())
        for size in variant.lift.sizes:
            runs = ((seed, _identity(common, size, seed)) for seed in variant.all_seeds)
            here = [(s, r) for s, r in runs if r not in done and int(r, 16) % parts == index]
            for first in range(0, len(here), study.chunk):
                seeds, identities = zip(*here[first : first + study.chunk], strict=True)
                yield Cell(axes, size, seeds, identities)


def axis_names(study: Study) -> dict[str, str]:
    """What the further axes are called in results: the key's last word, or the whole key."""
    last = {key: key.rpartition(".")[2] for key in study.vary}
    taken = {"size", "seed", "time", "loss", "run", "result", "edges", "parameters"}
    clash = [key for key, word in last.items() if list(last.values()).count(word) > 1]
    return {key: key if key in clash or word in taken else word for key, word in last.items()}


def _identity(common: dict, size: int, seed: int) -> str:
    return _hash(common | {"size": size, "seed": seed})


def _common_record(study: Study) -> dict:
    record = plain(study)
    for key in _NOT_IN_A_RUN:
        record.pop(key, None)
    del record["lift"]["sizes"]
    return record | {"schema": SCHEMA}


def _hash(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
