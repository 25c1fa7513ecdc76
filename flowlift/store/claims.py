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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import write_text
from .names import CLAIMS, writer

# Seconds between signs of life, and after how many without one a writer counts as dead.
BEAT, SILENCE = 5.0, 60.0


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
        if self.host == socket.gethostname() and not _exists(self.process):
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
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Holder":
        self._write()
        self._pulse.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        self._pulse.join()
        self._path.unlink(missing_ok=True)

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
        # A claim that cannot be written is advice that is not given.
        with contextlib.suppress(OSError):
            write_text(self._path, json.dumps(self._record | self._run), durable=False)

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
    for path in sorted((directory / CLAIMS).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            raw = json.loads(path.read_bytes())
            raw["runs"] = tuple(raw["runs"])
            yield Claim(path=path, beat=path.stat().st_mtime, **raw)


def clear_dead(directory: Path) -> list[Claim]:
    """Remove the claims of the dead.

    Args:
        directory: the store.

    Returns:
        Those that were removed.
    """
    dead = [claim for claim in claims(directory) if not claim.alive]
    for claim in dead:
        claim.path.unlink(missing_ok=True)
    return dead


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Dead, but not yet waited for by its parent; known on Linux only."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
