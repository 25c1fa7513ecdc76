"""What one cell's file holds, as a line of the index says it."""

import dataclasses
from collections.abc import Mapping

from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class Entry:
    """What one cell's file holds.

    Attributes:
        file: its name.
        runs: identities of its runs.
        size: the lift size; of a folded file that of its first run.
        seeds: a seed per run.
        results: how each run ended, as the result codes of `flowlift.Outcome`.
        seconds: wall time of each flow, compilation included.
        reasons: why runs failed, by identity: those that are not named did not fail.
        ended: when each run ended, UTC, ISO 8601; empty where an old file does not say.
        bytes: the file's size.
        whole: wall time of each run, drawing and observations included; empty in old files.
        compiling: how much of that went into tracing and compiling; empty in old files.
        digest: of the file's content, as it stands at the file's end; empty for old files.
        changed: when the file was written, in nanoseconds since 1970.
    """

    file: str
    runs: tuple[str, ...]
    size: int
    seeds: tuple[int, ...]
    results: tuple[str, ...]
    seconds: tuple[float, ...]
    reasons: Mapping[str, str]
    ended: tuple[str, ...]
    bytes: int
    whole: tuple[float, ...] = ()
    compiling: tuple[float, ...] = ()
    digest: str = ""
    changed: int = 0

    def is_repeated(self, place: int, again: Mapping[str, str]) -> bool:
        """Whether a run is a failure that is computed again.

        Args:
            place: its position.
            again: the failures, by run: when each had ended.

        Returns:
            Whether it is that very one. One that failed anew meanwhile is not.
        """
        return (run := self.runs[place]) in self.reasons and again.get(run) == self.ended[place]
