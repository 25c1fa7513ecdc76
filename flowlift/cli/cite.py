"""What `flowlift cite` prints: BibTeX of the paper, solvers, tasks and libraries of results.

Entries of papers are in `references.bib` beside this file, whose field `usedby` names what a study
calls them by; those of diffrax's solvers are in its docstrings, those of libraries in the
descriptions that the libraries themselves ship.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BIB = Path(__file__).with_name("references.bib")
_USED_BY = re.compile(r"^ *usedby = \{([^}]*)\},?\n", re.MULTILINE)
# A fenced entry, in a docstring or the description of a package.
_FENCED = re.compile(r"```(?:bibtex)?\s*\n\s*(@\w+\{.*?\n)\s*```", re.DOTALL)
_LIBRARIES = ("jax", "diffrax", "equinox", "lineax", "optimistix")
# Keys of a study whose values name what was used; of an axis any text may.
_NAMING = ("kind", "parametrisation", "solver")
# "bdf, then rkc2 (auto: ...)"
_THEN = re.compile(r", then ")
_OWN = """\
@software{{flowlift,
  title = {{flowlift: exact gradient flow for random sparse lifts of small networks}},
  author = {{{{the flowlift developers}}}},
  version = {{{version}}},
}}
"""


def references() -> dict[str, str]:
    """The entries of this package, by key, with what they are used by."""
    parts = re.split(r"^(?=@)", _BIB.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {_key(part): part.strip() + "\n" for part in parts if part.startswith("@")}


def used_by(entry: str) -> set[str]:
    """The words of studies that an entry belongs to.

    Args:
        entry: of `references`.

    Returns:
        The words.
    """
    found = _USED_BY.search(entry)
    return {word.strip() for word in found[1].split(",")} if found else set()


def citations(results: Path) -> str:
    """BibTeX of what the runs of a folder used, each entry once, by groups.

    Args:
        results: a folder of results.

    Returns:
        Text of a .bib file. Functions of one's own, and other programs' solvers, are named in a
        comment.
    """
    import tomllib

    from ..store import load

    data = load(results, variables=["solver_used"])
    study = tomllib.loads(data.attrs["study"])
    texts = {str(text) for text in data["solver_used"].values.ravel() if text}
    solvers = {word for text in texts for word in _THEN.split(text.partition(" (")[0])}
    # The theorem's paper belongs to whatever this program computed.
    words = {word for word in _words(study) if word != "auto"} | {"lift"}
    groups = {
        "This program": [_OWN.format(version=data.attrs["version_flowlift"])],
        "What the study names": _papers(words - solvers),
        "Solvers": [*_papers(solvers), *_of_diffrax(solvers)],
        "Libraries": [entry for name in _LIBRARIES for entry in _of_library(name)],
    }
    own = {word for word in words | solvers if ":" in word and not word.startswith("diffrax:")}
    return _as_text(groups, sorted(own))


def _words(table: Any, key: str = "") -> Iterator[str]:
    """Texts that name something, at any depth."""
    if isinstance(table, dict):
        for name, value in table.items():
            yield from _words(value, "kind" if key == "vary" else name)
    elif isinstance(table, list):
        for value in table:
            yield from _words(value, key)
    elif isinstance(table, str) and key in _NAMING:
        yield table


def _key(entry: str) -> str:
    return entry.partition("{")[2].partition(",")[0].strip()


def _papers(words: set[str]) -> list[str]:
    return [_USED_BY.sub("", entry) for entry in references().values() if used_by(entry) & words]


def _of_diffrax(solvers: set[str]) -> list[str]:
    import diffrax

    classes = {name.lower(): getattr(diffrax, name) for name in dir(diffrax)}
    names = {word.partition(":")[2].lower() or word for word in solvers}
    documents = (classes[name].__doc__ or "" for name in sorted(names & set(classes)))
    return [_even(entry) for text in documents for entry in _FENCED.findall(text)]


def _of_library(name: str) -> list[str]:
    """What a library asks to be cited by, in the description that it ships."""
    import importlib.metadata

    try:
        text = importlib.metadata.metadata(name).json["description"]
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return []
    return [_even(entry) for entry in _FENCED.findall(str(text))]


def _even(entry: str) -> str:
    """An entry without the indentation of the text around it."""
    lines = entry.rstrip().splitlines()
    inner = "".join(f"  {line.strip()}\n" for line in lines[1:-1] if line.strip())
    return f"{lines[0].strip()}\n{inner}}}\n"


def _as_text(groups: dict[str, list[str]], without: list[str]) -> str:
    seen: set[str] = set()
    parts = []
    for title, entries in groups.items():
        new = {_key(entry): entry for entry in entries if _key(entry) not in seen}
        seen |= set(new)
        parts += [f"% {title}\n", *new.values()] if new else []
    if without:
        parts.append(f"% Without an entry here: {', '.join(without)}\n")
    return "\n".join(parts)
