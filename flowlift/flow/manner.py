"""How a call of `solve` tells of itself and how it ends: nothing of it changes a number."""

import dataclasses
from collections.abc import Callable
from typing import Any

from .progress import Bar, Listener, listener_of

RAISE, RETURN = "raise", "return"


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a flow is watched, and what becomes of one that does not come to its end.

    Attributes:
        throw: raise `FlowError` if it neither met the horizon nor a stopping rule.
        interrupt: "raise" or "return": what happens on Ctrl-C.
        listener: who is told where the flow stands; None for nobody.
        asked: whether Ctrl-C came, though nothing was raised.
    """

    throw: bool = False
    interrupt: str = RAISE
    listener: Listener | type[Bar] | None = None
    asked: Callable[[], bool] = bool

    @staticmethod
    def of(throw: bool, interrupt: Any, progress: Any) -> "Manner":
        """The manner of a call, its arguments checked.

        Args:
            throw: as for `solve`.
            interrupt: likewise.
            progress: likewise.

        Returns:
            The manner.

        Raises:
            ValueError: for another word, or a progress that nothing can be told to.
        """
        if interrupt not in (RAISE, RETURN):
            raise ValueError(
                f"Argument `interrupt` must be {RAISE!r} or {RETURN!r}, but is {interrupt!r}; "
                "correct it."
            )
        return Manner(throw, interrupt, listener_of(progress))
