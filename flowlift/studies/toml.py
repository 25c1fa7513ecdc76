"""Study files: TOML, read strictly into a `Study` and written back whole."""

import copy
import dataclasses
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from .. import registry, sources
from ..spelling import path_of, text_of
from ..written import written
from .kinds import reading
from .records import Study, Value
from .structure import check_table, structured, unstructured

# Where results keep the sources of their study: a folder for each text, named by its hash.
KEPT = "sources"


def read_study(path: str | Path, overrides: Sequence[str] = (), *, quick: bool = False) -> Study:
    """Read a study file, and load the code that it names.

    Args:
        path: the TOML file.
        quick: make the assignments of the file's table `quick`, before all others.
        overrides: assignments "dotted.key=value", the value in TOML (a bare word is a string),
            applied before anything is checked; a whole table can be replaced.

    Returns:
        The study.

    Raises:
        ValueError: if the file is no TOML, a key is unknown (the nearest known one is named) or
            missing, a value has a wrong type, or a record refuses its values; the sentence names
            the file.
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
    """
    text = _text_of(path)
    try:
        raw = tomllib.loads(text)
        if quick:
            assigned = raw.get("quick", {})
            check_table(assigned, "quick")
            for key, value in assigned.items():
                _assign(raw, key, value)
        for assignment in overrides:
            _assign(raw, *_parse_assignment(assignment))
        with_sources(raw, [Path(path).parent])
        return structure_study(raw, execute=True)
    except (ValueError, TypeError) as error:
        # The cause is the code of the study where that raised: `--debug` shows it.
        raise ValueError(f"Study file {str(path)!r}: {error}") from error
    except RecursionError:
        raise ValueError(
            f"Study file {str(path)!r}: lists and tables must be nested a few levels deep, but are "
            "nested hundreds of levels deep; write them flat."
        ) from None


def _text_of(path: str | Path) -> str:
    """The text of a study file, in UTF-8 as TOML demands, whatever the locale."""
    name = str(path)
    if "\0" in name or not Path(path).is_file():
        what = "is a folder" if "\0" not in name and Path(path).is_dir() else "does not exist"
        raise FileNotFoundError(
            f"Argument `study` must be a TOML file, but {name!r} {what}; check the path."
        )
    try:
        return Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Study file {name!r}: a study must be text in UTF-8, but byte {error.start} is none; "
            "name a TOML file, or save it as UTF-8."
        ) from None
    except OSError as error:
        raise OSError(
            f"Argument `study` must be a file that can be read, but {name!r} gave: "
            f"{error.strerror}; change its permissions."
        ) from None


def recorded_study(path: str | Path) -> Study:
    """The study that a folder of results records: nothing that it names is executed.

    Args:
        path: the TOML file.

    Returns:
        The study; what it names by file or package is `Unloaded`, unless this process has loaded
        it before.

    Raises:
        ValueError: as for `read_study`.
    """
    try:
        return structure_study(tomllib.loads(_text_of(path)))
    except ValueError as error:
        raise ValueError(f"Study file {str(path)!r}: {error}") from None


def structure_study(raw: Mapping[str, Any], *, execute: bool = False) -> Study:
    """The study that a nested mapping of plain values means.

    Args:
        raw: as read from TOML.
        execute: load the code that it names, which its `sources` describe.

    Returns:
        The study.

    Raises:
        ValueError: as for `read_study`.
    """
    check_table(raw, "study")
    given = raw.get("sources", {})
    check_table(given, "sources")
    if execute:
        # Along further axes too: each of their studies is then read without executing anything.
        for word in filter(None, (sources.named(word) for _, _, word in _names(raw))):
            sources.function(word, given)
    with reading(given, execute=execute):
        return structured(raw)


def variants(study: Study) -> Iterator[tuple[dict[str, Value], Study]]:
    """The studies along the further axes of a grid: those of `vary`, then of `alternatives`.

    Args:
        study: the study.

    Yields:
        For each combination, the value along each axis (a label along an axis of alternatives)
        and the study with the assignments made.

    Raises:
        ValueError: for keys or values that the study does not take.
    """
    base = plain(study) | {"vary": {}, "alternatives": {}, "quick": {}}
    for combination in itertools.product(*_axes(study).values()):
        point = {axis: value for axis, value, _ in combination}
        raw = copy.deepcopy(base)
        for _, _, assignments in combination:
            for key, value in assignments.items():
                _assign(raw, key, copy.deepcopy(value))
        try:
            yield point, structure_study(raw)
        except ValueError as error:
            if not point:
                raise
            raise ValueError(
                f"Arguments `vary` and `alternatives` must name keys of the study with values that "
                f"they take, but {point} makes a study in which {error}"
            ) from None


def narrowed(study: Study, point: Mapping[str, Value]) -> Study:
    """The study of one combination along its further axes: what a cell needs to know of it.

    Args:
        study: the study.
        point: the value along each axis, as `variants` gives it.

    Returns:
        The same study with axes of one value each: `variants` gives the point alone.
    """
    vary = {axis: (value,) for axis, value in point.items() if axis in study.vary}
    labels = {axis: {x: study.alternatives[axis][x]} for axis, x in _labels(study, point)}
    return dataclasses.replace(study, vary=vary, alternatives=labels)


def _labels(study: Study, point: Mapping[str, Value]) -> list[tuple[str, str]]:
    return [(axis, str(x)) for axis, x in point.items() if axis in study.alternatives]


def _axes(study: Study) -> dict[str, list[tuple[str, Value, dict[str, Any]]]]:
    """For each further axis its points: axis, value, and what the value assigns."""
    points: dict[str, list[tuple[str, Value, dict[str, Any]]]] = {}
    for key, values in study.vary.items():
        points[key] = [(key, value, {key: value}) for value in values]
    for axis, labels in study.alternatives.items():
        points[axis] = [(axis, label, assigned) for label, assigned in labels.items()]
    return points


def overwritten(study: Study) -> tuple[str, str, str] | None:
    """A key that one axis assigns and a later one assigns over, itself or the table around it.

    Args:
        study: the study.

    Returns:
        The earlier axis, the later one, the key; None if every point of the grid is what its
        coordinates say.
    """
    earlier: list[tuple[str, str]] = []
    for axis, points in _axes(study).items():
        keys = sorted({key for _, _, assigned in points for key in assigned})
        for before, key in earlier:
            if any(f"{key}.".startswith(f"{over}.") for over in keys):
                return before, axis, key
        earlier += [(axis, key) for key in keys]
    return None


def axis_values(study: Study) -> dict[str, list[Value]]:
    """The values along each further axis, in the study's order; labels for alternatives."""
    return {axis: [value for _, value, _ in points] for axis, points in _axes(study).items()}


def plain(study: Study) -> dict[str, Any]:
    """The study as a nested dict of plain values, without what is None: the inverse of reading."""
    record = unstructured(study)
    if not record["sources"]:
        del record["sources"]
    return record


def with_sources(raw: dict[str, Any], folders: Sequence[Path]) -> None:
    """Find the sources of all names in a study and write them into it.

    Names of files lose their folders, so that the study is the same wherever its files are.

    Args:
        raw: the study as plain values; it is changed.
        folders: where to look for files.

    Raises:
        ValueError: if a file or module is missing, two files have one name, or a source is not
            the one that the study records.
    """
    recorded, found = raw.get("sources", {}), {}
    check_table(recorded, "sources")
    for name, files in recorded.items():
        check_table(files, f"sources.{name}")
    for holder, key, word in list(_names(raw)):
        named = _kept(word, recorded, folders) or found_word(word, folders)
        if named is None:
            continue
        name, files = named
        holder[key] = str(name)
        if found.setdefault(name.source, files) != files:
            raise ValueError(
                f"files of a study must have different names, but two are called {name.source!r}; "
                "rename one."
            )
        if recorded.get(name.source, files) != files:
            raise ValueError(
                f"the source {name.source!r} must be the one that the study records, but has "
                "changed; take the table [sources] out for a new study, or restore the file."
            )
    raw.pop("sources", None)
    if found:
        raw["sources"] = found


def found_word(word: str, folders: Sequence[Path]) -> tuple[sources.Named, dict[str, str]] | None:
    """The name under which a study records what a word means, with its sources.

    Args:
        word: a registered name, or that of a file or package.
        folders: where to look for files.

    Returns:
        The name and the digests of its sources; None for a built-in's name, and unknown ones.

    Raises:
        ValueError: if a file or module is missing.
    """
    name, entry = sources.named(word), registry.foreign(word)
    if entry is not None and entry.function is not None:
        return written(entry.function)
    if entry is not None:
        name = sources.named(registry.find(entry.kind, word).target)
    if name is None:
        return None
    files = sources.of(name, folders)
    base = text_of(Path(name.source).name) if name.is_file else name.source
    return sources.Named(base, name.name), files


def _kept(
    word: str, recorded: Any, folders: Sequence[Path]
) -> tuple[sources.Named, dict[str, str]] | None:
    """A source that results keep, as their study records it; a file beside the study goes first."""
    name = sources.named(word)
    if name is None or not name.is_file:
        return None
    if any((folder / path_of(name.source)).is_file() for folder in folders):
        return None
    files = recorded.get(name.source)
    if files and any(sources.recall(files, f / KEPT) for f in folders):
        return name, dict(files)
    return None


def sources_named(record: Any) -> Iterator[str]:
    """The files and modules that a study's plain values name.

    Args:
        record: plain values.

    Yields:
        Names of sources, with repetitions.
    """
    for _, _, word in _names(record):
        name = sources.named(word)
        if name is not None:
            yield name.source


def _names(value: Any) -> Iterator[tuple[Any, Any, str]]:
    """Every place that may name a source: what is called kind or solver, and lists of them."""
    items = value.items() if isinstance(value, dict) else ()
    for key, item in items:
        named = str(key).rpartition(".")[2] in ("kind", "solver")
        if named and isinstance(item, str):
            yield value, key, item
        elif named and isinstance(item, list):
            yield from ((item, i, x) for i, x in enumerate(item) if isinstance(x, str))
        yield from _names(item)
    for item in value if isinstance(value, list) else ():
        yield from _names(item)


def to_toml(study: Study) -> str:
    """The study with every default written out, as TOML text."""
    return tomli_w.dumps(plain(study))


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    key, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(
            f"An assignment must read key=value, but is {assignment!r}; write e.g. seeds=3."
        )
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text


def _assign(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents, 1):
        raw = raw.setdefault(parent, {})
        check_table(raw, ".".join(parents[:depth]))
    raw[last] = value
