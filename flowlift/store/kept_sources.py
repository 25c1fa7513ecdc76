"""The code that a study names, kept beside its results so that they can be repeated anywhere."""

from pathlib import Path

from ..files import write_text
from ..sources import kept_at, texts
from ..studies.records import Study
from ..studies.toml import KEPT


def keep_sources(study: Study, directory: Path) -> None:
    """Write the texts that a study names, by content: earlier versions stay for their runs.

    Args:
        study: the study.
        directory: the folder of results.
    """
    known = texts(study.sources)
    for files in study.sources.values():
        for name, described in files.items():
            digest = described.rpartition(":")[2]
            file = name if name.endswith(".py") else f"{name}.py"
            if digest in known:
                write_text(directory / KEPT / kept_at(file, digest), known[digest])
