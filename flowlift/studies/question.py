"""What the results of a study are to be asked."""

import dataclasses
from math import inf

from ..numbers import plain_fields
from ..showing import shows_itself


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True)
class Question:
    """What the results are to be asked, fixed before the runs: it determines none of their numbers.

    With which probability is the loss at most eps by time t, and from which size on is that
    probability at least 1 - delta (theory, section 4)?
    """

    losses: tuple[float, ...]
    """The losses eps that count as converged."""
    times: tuple[float, ...] = ()
    """By which flow times t; none: by the end of each flow."""
    delta: float = 0.1
    """The failure probability that the learning number allows."""
    level: float = 0.95
    """The confidence level of all intervals."""
    on: str | None = None
    """Which loss: training, L itself, as where it is left out, or "held out": whether that is at
    most eps **at** time t, since it may rise again."""

    def __post_init__(self):
        """Refuse a question without a meaning.

        Raises:
            ValueError: if a loss is not finite, a time not positive and finite, no loss is given,
                `delta` or `level` is not in (0, 1), or `on` is another word.
        """
        if self.on not in (None, "training", "held out"):
            raise ValueError(
                f"Argument `on` must be 'training' or 'held out', but is {self.on!r}; choose one."
            )
        if not self.losses:
            raise ValueError("Argument `losses` must hold a loss, but is empty; give e.g. [1e-2].")
        for name, kind, least in (("losses", "", -inf), ("times", "positive ", 0.0)):
            if not all(least < value < inf for value in getattr(self, name)):
                raise ValueError(
                    f"Argument `{name}` must hold {kind}finite numbers, but is "
                    f"{getattr(self, name)}; correct it."
                )
        for name in ("delta", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"Argument `{name}` must lie between 0 and 1, but is {getattr(self, name)!r}; "
                    "give e.g. 0.1."
                )

    @property
    def asked_on(self) -> str:
        """Which loss: "training" or "held out"."""
        return self.on or "training"

    @property
    def pairs(self) -> tuple[tuple[float, float | None], ...]:
        """Every loss with every time."""
        return tuple((loss, time) for loss in self.losses for time in self.times or (None,))
