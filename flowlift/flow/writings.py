"""When the files of a flow are written: by one clock, the files of finished legs first."""

import time
from collections.abc import Callable


class Writings:
    """The clock of all files of one flow, and what is to be written before them.

    A flow whose graph changes has a file a leg. A leg is of use to a later start only if all legs
    before it are on disk, so that these are written first, and not before a file is due: short legs
    cost no writing each.
    """

    def __init__(self, every: float):
        """Begin the clock.

        Args:
            every: least number of seconds between two writings.
        """
        self._every, self._written = every, time.monotonic()
        self._waiting: list[Callable[[], None]] = []

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self._every

    def later(self, write: Callable[[], None]) -> None:
        """Write before the next file, or now if it is time to.

        Args:
            write: writes the file of a leg that is finished.
        """
        self._waiting.append(write)
        if self.due:
            self.write(lambda: None)

    def write(self, write: Callable[[], None]) -> None:
        """Write what waits, then a file; the clock begins anew.

        Args:
            write: writes the file.
        """
        while self._waiting:
            self._waiting[0]()
            self._waiting.pop(0)
        write()
        self._written = time.monotonic()
