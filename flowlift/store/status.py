"""How far a study is: done, running, failed and why, missing, and the time left."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from ..showing import shows_itself
from ..studies.rows import Row
from .claims import Claim, claims
from .entry import Entry
from .index import latest, read_index, unread
from .names import STUDY
from .plan import read_plan
from .rates import Rates, duration

_FAILURES_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        run: its identity.
        where: what distinguishes it, with its seed.
        result: its result code.
        reason: why.
    """

    run: str
    where: str
    result: str
    reason: str


@shows_itself
@dataclasses.dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: its name.
        runs: how many runs it consists of.
        results: how many of those that are done ended how.
        failed: those that failed; they are done too.
        running: claims of live writers on runs of the study.
        missing: runs neither done nor claimed.
        rows: per shape, its text, its runs, and those done.
        seconds_left: expected wall time, from finished runs; None before there is one.
    """

    study: str
    runs: int
    results: Mapping[str, int]
    failed: tuple[Failure, ...]
    running: tuple[Claim, ...]
    missing: int
    rows: tuple[tuple[str, int, int], ...]
    seconds_left: float | None

    @property
    def done(self) -> int:
        """How many runs are done, however they ended."""
        return sum(self.results.values())


def status(
    directory: str | Path,
    reread: Callable[[Path], tuple[Mapping[str, Entry], tuple[str, list[Row]] | None]],
) -> Status:
    """How far the study is that was run last in a store.

    Reads the index, the plan and the claims; no data file is opened, unless the index lacks it.

    Args:
        directory: the store.
        reread: brings index and plan up to date with the files, where the index does not know
            them or the store is older than plans; gives what is there, written or not.

    Returns:
        The status.

    Raises:
        FileNotFoundError: if the folder holds no study.
    """
    directory = Path(directory)
    plan, known = read_plan(directory), read_index(directory)
    readable = plan is not None or (directory / STUDY).is_file()
    if readable and (plan is None or unread(directory, known)):
        known, written = reread(directory)
        plan = written or plan
    if plan is None:
        raise FileNotFoundError(
            f"Argument `results` must be a folder written by `flowlift run`, but "
            f"{str(directory)!r} holds no study; run the study first."
        )
    name, rows = plan
    wanted = {run for row in rows for run in row.runs}
    done = latest(known.values())
    if not done.keys() <= wanted:
        done = {run: found for run, found in done.items() if run in wanted}
    live = tuple(c for c in claims(directory) if c.alive and wanted.intersection(c.runs))
    claimed = {run for claim in live for run in claim.runs if run in wanted} - done.keys()
    return Status(
        study=name,
        runs=len(wanted),
        results=Counter(entry.results[place] for entry, place in done.values()),
        failed=tuple(_failures(rows, done)),
        running=live,
        missing=len(wanted) - len(done) - len(claimed),
        rows=tuple((r.text, len(r.runs), sum(map(done.__contains__, r.runs))) for r in rows),
        seconds_left=_seconds_left(rows, done, max(1, len(live))),
    )


def as_text(found: Status) -> str:
    """The status for a terminal.

    Args:
        found: the status.

    Returns:
        Lines.
    """
    results = ", ".join(f"{count} {name}" for name, count in sorted(found.results.items()))
    current = [f"n = {c.size} seed {c.seed}" for c in found.running if c.run]
    left = found.seconds_left
    lines = [
        f"study    {found.study}: {found.runs} runs",
        f"done     {found.done}" + (f" ({results})" if results else ""),
        f"running  {len(found.running)} writers" + (f": {'; '.join(current)}" if current else ""),
        f"failed   {len(found.failed)}",
        f"missing  {found.missing}",
        f"left     {'not known before a run is done' if left is None else duration(left)}",
    ]
    lines += [f"  {text}: {done} of {runs}" for text, runs, done in found.rows if done < runs]
    shown = found.failed[:_FAILURES_SHOWN]
    lines += [f"  failed: {f.where}: {f.result}. {f.reason}" for f in shown]
    if len(found.failed) > len(shown):
        lines.append(f"  ... and {len(found.failed) - len(shown)} more failures")
    return "\n".join(lines)


def _failures(rows: list[Row], done: Mapping[str, tuple[Entry, int]]):
    failed = {run for run, (entry, _) in done.items() if run in entry.reasons}
    for row in rows if failed else ():
        for seed, run in zip(row.seeds, row.runs, strict=True):
            if run in failed:
                entry, place = done[run]
                where = f"{row.text}, seed {seed}"
                yield Failure(run, where, entry.results[place], entry.reasons[run])


def _seconds_left(rows: list[Row], done: Mapping, writers: int) -> float | None:
    if done and all(run in done for row in rows for run in row.runs):
        return 0.0
    rates = Rates(rows, done)
    if not rates.known:
        return None
    left = [
        dataclasses.replace(row, seeds=seeds)
        for row in rows
        if (seeds := tuple(s for s, x in zip(row.seeds, row.runs, strict=True) if x not in done))
    ]
    return rates.total(left) / writers
