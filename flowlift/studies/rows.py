"""A row of a study's runs, of the standard library alone: a status reads plans without JAX."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """The runs of one shape: one size, one combination of values along the further axes.

    Attributes:
        variant: (dotted key, value) pairs.
        size: the lift size.
        seeds: the seeds.
        runs: identities, one per seed.
    """

    variant: tuple[tuple[str, Any], ...]
    size: int
    seeds: tuple[int, ...]
    runs: tuple[str, ...]

    @property
    def text(self) -> str:
        """What distinguishes the row."""
        return "".join(f"{key} = {value}, " for key, value in self.variant) + f"n = {self.size}"
