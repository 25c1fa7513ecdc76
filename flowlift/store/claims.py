"""Who computes what right now: a small file per live writer, touched while it lives.

Claims are advice. They tell a status what is running, a second master what to leave for later,
and after a crash which runs were under way. No number depends on them.
"""

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import clear_parts, process_exists, read_bytes, regular_files, write_text
from ..showing import shows_itself
from .names import CELLS, CHECKPOINTS, CLAIMS, INDEX, writer

# Seconds between signs of life, and after how many without one a writer counts as dead.
BEAT, SILENCE = 5.0, 60.0


@shows_itself
@dataclasses.dataclass(frozen=True)
class Claim:
    """What a writer says of itself.

    Attributes:
        path: its file.
        host: the machine's name.
        process: the process's number there.
        runs: identities of the runs that it will store.
        size: their lift size.
        run: the run under way, "" between runs.
        seed: its seed.
        facts: what is known of its lift.
        since: when the run began, in seconds since 1970.
        beat: the last sign of life, in seconds since 1970.
    """

    path: Path
    host: str
    process: int
    runs: tuple[str, ...]
    size: int
    run: str
    seed: int
    facts: Mapping[str, Any]
    since: float
    beat: float

    @property
    def alive(self) -> bool:
        """Whether the writer still runs: at once on its own machine, elsewhere by its silence."""
        if self.host == socket.gethostname() and not process_exists(self.process):
            return False
        return time.time() - self.beat < SILENCE


class Holder:
    """A writer's own claim on a cell, as a context."""

    def __init__(self, directory: Path, runs: tuple[str, ...], size: int):
        self._path = directory / CLAIMS / f"{writer()}-{threading.get_ident()}.json"
        self._record = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "runs": runs,
            "size": size,
        }
        self._run: dict[str, Any] = {"run": "", "seed": -1, "facts": {}, "since": time.time()}
        # Characters of the longest text so far; JSON here is ASCII, and takes spaces at its end.
        self._length = 0
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Holder":
        self._write()
        self._pulse.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        self._pulse.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    @property
    def shared(self) -> bool:
        """Whether another live writer claims some of the runs too.

        Each writes its claim before it looks, so that of two that begin at once, one at least
        sees the other.
        """
        mine = set(self._record["runs"])
        others = (claim for claim in claims(self._path.parents[1]) if claim.path != self._path)
        return any(claim.alive and not mine.isdisjoint(claim.runs) for claim in others)

    def begin(self, run: str, seed: int) -> None:
        """Say which run is under way.

        Args:
            run: its identity.
            seed: its seed.
        """
        self._run = {"run": run, "seed": seed, "facts": {}, "since": time.time()}
        self._write()

    def know(self, facts: Mapping[str, Any]) -> None:
        """Say what is known of the lift under way, for the record of a crash.

        Args:
            facts: numbers and texts by name.
        """
        self._run = {**self._run, "facts": dict(facts)}
        self._write()

    def _write(self) -> None:
        """Over the last one, by one write that leaves no end of it: a run begins and ends often.

        Who reads it in the midst may find it torn, and passes it over once.
        """
        text = json.dumps(self._record | self._run).ljust(self._length)
        # A claim that cannot be written is advice that is not given.
        with contextlib.suppress(OSError):
            try:
                descriptor = os.open(self._path, os.O_WRONLY)
            except FileNotFoundError:
                write_text(self._path, text, durable=False)
            else:
                try:
                    os.write(descriptor, text.encode())
                finally:
                    os.close(descriptor)
        self._length = len(text)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)


def claims(directory: Path) -> Iterator[Claim]:
    """The claims that are there, of the living and of the dead.

    Args:
        directory: the store.

    Yields:
        Claims; files that vanish or are torn meanwhile are passed over.
    """
    for name, known in regular_files(directory / CLAIMS, ".json").items():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            raw = json.loads(read_bytes(directory / CLAIMS / name) or b"")
            yield _typed(directory / CLAIMS / name, known.st_mtime, raw)


def _typed(path: Path, beat: float, raw: dict[str, Any]) -> Claim:
    """A claim whose fields are what they must be, whatever the file says."""
    types = {"host": str, "process": int, "size": int, "run": str, "seed": int, "facts": dict}
    fields: dict[str, Any] = {name: type_(raw[name]) for name, type_ in types.items()}
    runs, since = tuple(map(str, raw["runs"])), float(raw["since"])
    return Claim(path=path, beat=beat, runs=runs, since=since, **fields)


def clear_dead(directory: Path) -> list[Claim]:
    """Remove the claims of the dead, and what they left half-written.

    Args:
        directory: the store.

    Returns:
        The claims that were removed.
    """
    dead = [claim for claim in claims(directory) if not claim.alive]
    for claim in dead:
        # In a store that cannot be written they stay, and count as dead.
        with contextlib.suppress(OSError):
            claim.path.unlink(missing_ok=True)
    for folder in ("", CELLS, INDEX, CLAIMS, CHECKPOINTS):
        clear_parts(directory / folder)
    return dead


def claimed_by_others(directory: Path, runs: Collection[str]) -> bool:
    """Whether a live writer claims some of these runs.

    Args:
        directory: the store.
        runs: identities.

    Returns:
        Whether one does.
    """
    return any(claim.alive and not set(runs).isdisjoint(claim.runs) for claim in claims(directory))
