"""Where results go: refused before anything is computed if it cannot be written there."""

from pathlib import Path

from ..spelling import path_of

# Of the name of a file or a folder, in bytes, on all usual file systems.
_LONGEST = 255


def folder_for(output: Path | None, name: str, *below: str) -> Path:
    """The folder of results that a command means.

    Args:
        output: the folder that was asked for; None for results/NAME.
        name: the study's name.
        *below: folders in results/NAME.

    Returns:
        The folder.

    Raises:
        ValueError: if the name is no name of a folder, or the path leads through a file.
    """
    if output is not None:
        return usable_folder(output)
    # What cannot be printed would break lines; a file system takes so many bytes.
    wrong = name in ("", ".", "..") or set(name) & set("/\\") or not name.isprintable()
    if wrong or len(name.encode(errors="replace")) > _LONGEST:
        raise ValueError(
            f"Argument `name` must be the name of a folder below results/, but is {name[:80]!r}"
            f"{'...' * (len(name) > 80)}; rename the study, or give --output."
        )
    return usable_folder(Path("results").joinpath(path_of(name), *below))


def usable_folder(path: Path) -> Path:
    """A path that is a folder, or can become one.

    Args:
        path: the path.

    Returns:
        The path.

    Raises:
        ValueError: if it is a file, or leads through one.
    """
    _check_text(path)
    for part in (path, *path.parents):
        if (part.exists() or part.is_symlink()) and not part.is_dir():
            raise ValueError(
                f"Argument `output` must be a folder, or free, but {str(part)!r} is a file; name "
                "another."
            )
    return path


def usable_file(path: Path) -> Path:
    """A path that is a file, or can become one.

    Args:
        path: the path.

    Returns:
        The path.

    Raises:
        ValueError: if it is a folder, or leads through a file.
    """
    _check_text(path)
    if path.is_dir():
        raise ValueError(
            f"Argument `output` must be a file, or free, but {str(path)!r} is a folder; name a "
            "file in it."
        )
    usable_folder(path.parent)
    return path


def existing_folder(results: Path) -> Path:
    """A folder of results that is there.

    Args:
        results: the path.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if it is no folder.
    """
    if "\0" in str(results) or not results.is_dir():
        raise FileNotFoundError(
            f"Argument `results` must be a folder written by `flowlift run`, but {str(results)!r} "
            "is none; check the path."
        )
    return results


def shard_of(text: str) -> tuple[int, int]:
    """Which part of how many an array job is.

    Args:
        text: as given, "0/4".

    Returns:
        Its index and the number of parts.

    Raises:
        ValueError: if the text is not of this form.
    """
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"Argument `shard` must read I/N, but is {text!r}; write e.g. 0/4.")
    return int(index), int(parts)


def _check_text(path: Path) -> None:
    if "\0" in str(path):
        raise ValueError(
            f"Argument `output` must be a path, but {str(path)!r} holds a NUL; take it out."
        )
