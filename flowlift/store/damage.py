"""What was found damaged in a store: moved out of the way, named, and kept on record."""

import dataclasses
import json
import os
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

from ..files import read_bytes
from ..showing import shows_itself
from .names import DAMAGE, SET_ASIDE


@shows_itself
@dataclasses.dataclass(frozen=True)
class Damage:
    """A file that was set aside.

    Attributes:
        file: its place in the store, e.g. "cells/0123456789abcdef.nc".
        why: what is wrong with it.
        runs: identities of the runs that it held; empty where that is not known.
    """

    file: str
    why: str
    runs: tuple[str, ...] = ()


def set_aside(path: Path, why: str, runs: Collection[str] = ()) -> Damage:
    """Move a file out of the way, say so, and put it on record.

    Args:
        path: the file, one folder below the store.
        why: what is wrong with it, as "it ...".
        runs: identities of the runs that it held, as far as they are known.

    Returns:
        The record. In a store that cannot be written, the file stays where it is.
    """
    found = Damage(f"{path.parent.name}/{path.name}", why, tuple(sorted(runs)))
    place = _free_name(path.parent.parent / SET_ASIDE / path.name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
        _note(path.parent.parent, found)
        done = f"was moved to {place}"
    except FileNotFoundError:
        # Another master was first.
        return found
    except OSError:
        done = "is left out"
    warnings.warn(f"{path} {done}: {why}.", stacklevel=2)
    return found


def damages(directory: Path) -> list[Damage]:
    """What was set aside in a store so far.

    Args:
        directory: the store.

    Returns:
        The records, in the order in which they were found.
    """
    found = []
    for line in (read_bytes(directory / DAMAGE) or b"").splitlines():
        try:
            raw = json.loads(line)
            runs = tuple(str(run) for run in raw["runs"])
            found.append(Damage(str(raw["file"]), str(raw["why"]), runs))
        except (ValueError, TypeError, KeyError):
            # The last line of a killed writer.
            continue
    return found


def remark(found: Iterable[Damage], missing: Collection[str]) -> str:
    """What an answer has to say of damage.

    Args:
        found: what was set aside.
        missing: runs of the study that are not there.

    Returns:
        A sentence; empty if no missing run can have been in a damaged file.
    """
    hit, lost = _hit(found, missing), len(explained(found, missing))
    if not lost:
        return ""
    names = ", ".join(f"{d.file} ({d.why})" for d in hit[:3]) + ", ..." * (len(hit) > 3)
    most = "" if all(d.runs for d in hit) else "up to "
    return (
        f"Damaged files were left out: {names}. {most}{lost} runs of this study are missing for "
        "it; run the study again to compute them."
    ).replace(" up to", " Up to")


def explained(found: Iterable[Damage], missing: Collection[str]) -> set[str]:
    """The missing runs that damage may account for.

    Args:
        found: what was set aside.
        missing: runs of the study that are not there.

    Returns:
        Those that damaged files held; all of them if it is not known what one held.
    """
    hit = _hit(found, missing)
    if not all(d.runs for d in hit):
        return set(missing)
    return {run for d in hit for run in d.runs} & set(missing)


def _hit(found: Iterable[Damage], missing: Collection[str]) -> list[Damage]:
    """Damaged cells that may have held some of these runs, each once."""
    cells = {d.file: d for d in found if d.file.startswith("cells/")}
    return [d for d in cells.values() if missing and (not d.runs or set(d.runs) & set(missing))]


def _note(directory: Path, found: Damage) -> None:
    line = json.dumps(dataclasses.asdict(found)) + "\n"
    descriptor = os.open(directory / DAMAGE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _free_name(place: Path) -> Path:
    """The place, numbered if something was set aside under that name before."""
    number, free = 1, place
    while os.path.lexists(free):
        free = place.with_name(f"{place.name}.{number}")
        number += 1
    return free
