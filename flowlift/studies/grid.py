"""What a study consists of: runs with an identity, gathered into cells."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from ..reserved import LATER, RESERVED
from ..showing import shows_itself
from .records import NOT_IN_A_RUN, Study, Value
from .rows import Row
from .toml import axis_values, plain, sources_named, variants

# Of the files. The identity of a run has its own version: it stays when files gain variables.
SCHEMA, IDENTITY = 4, 1
# Keys that are younger than identities: at their defaults they do not enter them.
_YOUNGER = {"lift": {"size_counts": "copies"}}


@shows_itself
@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs of one shape, a few seeds: one compilation serves them, one file keeps them.

    Attributes:
        variant: values along the study's further axes, by dotted key or axis of alternatives.
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

    def without(self, runs: Collection[str]) -> "Cell | None":
        """The cell without some of its runs.

        Args:
            runs: identities.

        Returns:
            What is left, None if nothing is.
        """
        left = [pair for pair in zip(self.seeds, self.runs, strict=True) if pair[1] not in runs]
        if not left:
            return None
        seeds, identities = zip(*left, strict=True)
        return dataclasses.replace(self, seeds=seeds, runs=identities)

    def only(self, run: str) -> "Cell":
        """The cell of one of its runs.

        Args:
            run: its identity.

        Returns:
            A cell of one run.
        """
        seed = self.seeds[self.runs.index(run)]
        return dataclasses.replace(self, seeds=(seed,), runs=(run,))

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
    study: Study,
    done: Collection[str] = (),
    shard: tuple[int, int] = (0, 1),
    *,
    plan: Iterable[Row] | None = None,
) -> Iterator[Cell]:
    """The cells of a study that hold the runs not yet done, size by size.

    Args:
        study: the study.
        done: identities of finished runs.
        shard: (i, n) keeps the i-th of n disjoint parts, i < n; a run's part follows from its
            identity alone.
        plan: the study's rows where they are known already; to list them takes a while.

    Yields:
        Cells of at most `chunk` seeds.
    """
    index, parts = shard
    for row in rows(study) if plan is None else plan:
        pairs = zip(row.seeds, row.runs, strict=True)
        here = [(s, r) for s, r in pairs if r not in done and int(r, 16) % parts == index]
        each = study.seeds_a_cell
        for first in range(0, len(here), each):
            seeds, identities = zip(*here[first : first + each], strict=True)
            yield Cell(row.variant, row.size, seeds, identities)


def rows(study: Study) -> Iterator[Row]:
    """The runs of a study, shape by shape.

    Args:
        study: the study.

    Yields:
        A row for each combination of values along the further axes and each size.
    """
    for assignments, variant in variants(study):
        common, axes = _common_record(variant), tuple(assignments.items())
        for size in variant.all_sizes:
            seeds = tuple(variant.seeds_of(size))
            yield Row(axes, size, seeds, _identities(common, size, seeds))


def cells_of(
    study: Study, variant: Mapping[str, Value]
) -> Callable[[int, Sequence[int]], list[Cell]]:
    """What makes cells of one variant for any seeds, whatever number of them the study says.

    Args:
        study: the study with the variant's values, without further axes.
        variant: the values along the axes.

    Returns:
        (size, seeds) -> cells of at most `chunk` seeds.
    """
    common, at = _common_record(study), tuple(variant.items())

    def make(size: int, seeds: Sequence[int]) -> list[Cell]:
        each = study.seeds_a_cell
        parts = [tuple(seeds[i : i + each]) for i in range(0, len(seeds), each)]
        return [Cell(at, size, part, _identities(common, size, part)) for part in parts]

    return make


def axis_names(study: Study) -> dict[str, str]:
    """What the further axes are called in results: the key's last word, or the whole key.

    The whole key where two axes share the word, or results use it themselves.

    Args:
        study: the study.

    Returns:
        Names by dotted key, or by axis of alternatives.

    Raises:
        ValueError: if an axis of alternatives bears a name that results use.
    """
    last = {key: key.rpartition(".")[2] for key in axis_values(study)}
    observed = list(study.observe.quantities) if study.observe else []
    # Axes keep the names that they have in earlier results.
    taken = {*(RESERVED - LATER), *observed, *(f"{name}_gradients" for name in observed)}
    clash = [key for key, word in last.items() if list(last.values()).count(word) > 1]
    names = {key: key if key in clash or word in taken else word for key, word in last.items()}
    for name in names.values():
        if name in taken:
            raise ValueError(
                f"An axis must have a name that results do not use, but one is called {name!r}; "
                "rename it."
            )
    return names


def _identity(common: dict, size: int, seed: int) -> str:
    return _hash(common | {"size": size, "seed": seed})


def _identities(common: dict, size: int, seeds: Sequence[int]) -> tuple[str, ...]:
    """As `_identity` of each seed: what stands around the seed in the text is made once."""
    parts = sorted((common | {"size": size, "seed": 0}).items())
    texts = [json.dumps({key: value}, sort_keys=True)[1:-1] for key, value in parts]
    place = [key for key, _ in parts].index("seed")
    before = "".join(f"{text}, " for text in texts[:place])
    after = "".join(f", {text}" for text in texts[place + 1 :])
    whole = ("{" + before + f'"seed": {int(seed)}' + after + "}" for seed in seeds)
    return tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in whole)


def _common_record(study: Study) -> dict:
    record = plain(study)
    for key in NOT_IN_A_RUN:
        record.pop(key, None)
    record.pop("sizes", None)
    record.get("lift", {}).pop("sizes", None)
    for table, defaults in _YOUNGER.items():
        there = record.get(table, {})
        for key in [k for k, default in defaults.items() if there.get(k) == default]:
            del there[key]
    for key in ("frozen", "rates", "decay", "terms"):
        if not record.get(key, True):
            # Nothing there is what a study says by leaving it out.
            del record[key]
    # Of the sources, those that this run names: another file of the study changes nothing here.
    used = set(sources_named(record))
    named = {n: files for n, files in record.pop("sources", {}).items() if n in used}
    return record | ({"sources": named} if named else {}) | {"schema": IDENTITY}


def _hash(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def all_sizes(study: Study) -> list[int]:
    """The lift sizes of all variants, in the study's order."""
    return list(dict.fromkeys(n for _, variant in variants(study) for n in variant.all_sizes))
