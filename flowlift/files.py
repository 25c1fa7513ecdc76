"""Files that appear whole or not at all, and folders that may hold what is no file of ours."""

import contextlib
import errno
import functools
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Errors that say nothing of a file's content: of the process, the machine or the rights.
_OF_THE_SYSTEM = {
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit on open files",
    errno.ENOMEM: "free some memory",
    errno.EACCES: "give yourself the right to it, or choose another place",
    errno.EPERM: "give yourself the right to it, or choose another place",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the mount",
}
_OF_WRITING = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOTDIR: "choose another place, since a part of the path is a file",
    errno.EEXIST: "choose another place",
    errno.EISDIR: "choose another place, since a folder is where the file must be",
    errno.ENAMETOOLONG: "choose a shorter name",
}
# Seconds after which a part that nobody writes to is a dead writer's: on this machine, where the
# process is known to be gone, and on others, whose processes are not known.
_SILENCE, _SILENCE_ELSEWHERE = 60.0, 86400.0
_PART = ".part"


class NotWritten(OSError):
    """Raised when a file could not be written; what stood at its place is untouched.

    Attributes:
        cause: the system's own error.
    """

    def __init__(self, path: Path, cause: OSError):
        """Name the file, the cause and a remedy.

        Args:
            path: the file.
            cause: the system's own error.
        """
        super().__init__(
            f"{str(path)!r} could not be written ({cause}); {remedy(cause)}. Nothing that stood "
            "there was changed."
        )
        self.cause = cause


class NotRead(OSError):
    """Raised when a file could not be read for a reason that says nothing of its content."""

    def __init__(self, path: Path, cause: OSError):
        """Name the file, the cause and a remedy.

        Args:
            path: the file or folder.
            cause: the system's own error.
        """
        super().__init__(f"{str(path)!r} could not be read ({cause}); {remedy(cause)}.")


def write_whole(path: Path, write: Callable[[str], object], *, durable: bool = True) -> None:
    """Write a file beside its place, flush it, and move it there.

    Killed at any moment, it leaves the old file or the new one, and at most a part beside it.

    Args:
        path: its place; folders are made.
        write: writes the file, given a temporary name.
        durable: flush file and folder to the disk, so that not even a power failure tears it.

    Raises:
        NotWritten: if the system refuses; the sentence names the file, the cause and a remedy.
    """
    with _writing(path):
        _check_place(path)
        handle, temporary = _part_beside(path)
        os.close(handle)
        try:
            write(temporary)
            os.chmod(temporary, 0o666 & ~_UMASK)
            if durable:
                _flush(temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if durable:
            _flush(path.parent)


def _part_beside(path: Path) -> tuple[int, str]:
    """A new file beside the place; folders are made where there are none."""
    make = functools.partial(tempfile.mkstemp, prefix=_prefix(), suffix=_PART, dir=path.parent)
    try:
        return make()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return make()


def _check_place(path: Path) -> None:
    """A device or a folder is never replaced."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EEXIST, "what is there is no file")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """As `write_whole`, for a text, in UTF-8 whatever the locale, bytes of paths as they are."""
    content = text.encode("utf-8", "surrogateescape")

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            file.write(content)

    write_whole(path, write, durable=durable)


def write_whole_folder(path: Path, write: Callable[[str], object]) -> None:
    """As `write_whole`, for a format that is a folder; one that stood there is replaced.

    Args:
        path: its place; folders above are made.
        write: fills the folder, given a temporary name.

    Raises:
        NotWritten: if the system refuses.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=_prefix(), suffix=_PART, dir=path.parent)
        try:
            write(temporary)
            os.chmod(temporary, 0o777 & ~_UMASK)
            if path.is_dir() and not path.is_symlink():
                # Two renames, since none replaces a folder that holds something.
                os.rename(path, f"{temporary}.old")
            os.rename(temporary, path)
        finally:
            shutil.rmtree(f"{temporary}.old", ignore_errors=True)
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _writing(path: Path):
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(path, error) from error


def remedy(error: OSError) -> str:
    """What to do about an error of the system, by its number."""
    return (_OF_THE_SYSTEM | _OF_WRITING).get(error.errno or 0, "remove the cause and try again")


def read_bytes(path: Path, start: int = 0) -> bytes | None:
    """The content of a file.

    Args:
        path: the file.
        start: the first byte that is read.

    Returns:
        Its content; None where there is no file of that name (any more), or something else: a
        folder, a socket, a pipe, a link that leads nowhere.

    Raises:
        NotRead: if the system refuses, e.g. because too many files are open. Nothing follows for
            the content then.
    """
    found = read_with_time(path, start)
    return None if found is None else found[0]


def read_with_time(path: Path, start: int = 0) -> tuple[bytes, int] | None:
    """As `read_bytes`, with the time of the file's last change in nanoseconds since 1970."""
    try:
        file = open_regular(path)
        if file is None:
            return None
        with file:
            file.seek(start)
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise error if isinstance(error, NotRead) else NotRead(path, error) from error


def open_regular(path: Path) -> BinaryIO | None:
    """A file to be read by parts, where it is too large to be in memory twice.

    Args:
        path: the file.

    Returns:
        It, open; None where there is no file of that name, or something else, as for `read_bytes`.

    Raises:
        NotRead: if the system refuses.
    """
    try:
        # Whoever asked closes it.
        file = open(path, "rb", opener=_not_waiting)  # noqa: SIM115
        # Of the open file: a call by name would ask a shared file system once more.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        return None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        # Links in a circle, sockets, and what is no file and may not be opened.
        if error.errno in (errno.ELOOP, errno.ENXIO) or _is_other(path):
            return None
        raise NotRead(path, error) from error


def _not_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to would hold a reader up for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_other(path: Path) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def of_the_system(error: BaseException) -> bool:
    """Whether an error is about process, machine or rights, and says nothing of a file."""
    numbered = isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM
    return numbered or isinstance(error, NotRead | MemoryError | ImportError)


def regular_files(folder: Path, suffix: str) -> dict[str, os.stat_result]:
    """The regular files of a folder, links to such included, whatever else lies there.

    Args:
        folder: the folder.
        suffix: how their names end.

    Returns:
        What the system says of each, by name, sorted; empty where there is no such folder.

    Raises:
        NotRead: if the folder cannot be listed: that is not an empty one.
    """
    found: dict[str, os.stat_result] = {}
    for name in file_names(folder, suffix):
        # A file that vanishes meanwhile, a link that leads nowhere.
        with contextlib.suppress(OSError):
            known = os.stat(folder / name)
            if stat.S_ISREG(known.st_mode):
                found[name] = known
    return found


def file_names(folder: Path, suffix: str) -> list[str]:
    """What lies in a folder, whatever it is: one look, where `regular_files` takes one a file.

    Args:
        folder: the folder.
        suffix: how the names end.

    Returns:
        Names, sorted; none where there is no such folder.

    Raises:
        NotRead: if the folder cannot be listed.
    """
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NotRead(folder, error) from error


def clear_parts(folder: Path) -> list[Path]:
    """Remove what dead writers left unfinished in a folder.

    A part names its writer. It goes if that process of this machine is gone and the part is a
    minute old, or if nobody has written to it for a day.

    Args:
        folder: the folder.

    Returns:
        What was removed.
    """
    gone = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(".") and _PART in name and _is_left_over(folder / name):
                _remove(folder / name)
                gone.append(folder / name)
    return gone


def process_exists(process: int) -> bool:
    """Whether a process of this machine runs; one that only waits for its parent does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
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


def _is_left_over(part: Path) -> bool:
    try:
        silent = time.time() - os.lstat(part).st_mtime
    except OSError:
        return False
    host, _, rest = part.name[1:].rpartition("+")[0].rpartition("+")
    here = host == socket.gethostname() and rest.isdecimal()
    dead = here and not process_exists(int(rest))
    return silent > (_SILENCE if dead else _SILENCE_ELSEWHERE)


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink()


def _prefix() -> str:
    return f".{socket.gethostname()}+{os.getpid()}+"


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Once, on import: reading it later would change it for other threads meanwhile.
_UMASK = _umask()
