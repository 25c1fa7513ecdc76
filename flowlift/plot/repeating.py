"""The command that computes one run of a study again, beside the results and not into them."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ..studies import Study
from ..studies.structure import unstructured
from ..studies.toml import narrowed


def command_of(study: Study, point: Mapping[str, Any], size: int, seed: int, place: str) -> str:
    """What a shell is given to repeat a run.

    Args:
        study: the study, which is saved as study.toml.
        point: the run's value along each further axis, by dotted key or axis of alternatives.
        size: the lift size.
        seed: the seed.
        place: the name of the folder of results; those of the command go beside it.

    Returns:
        One line. Its study holds that run alone, unless an axis of alternatives gives sizes or
        seeds of its own; the run's identity is the same.
    """
    sizes = "--sizes" if study.lift is None else "--lift.sizes"
    words = ["flowlift", "run", "study.toml", sizes, str(size), "--first-seed", str(seed)]
    words += ["--seeds", "1", "--output", f"{place}-n{size}-seed{seed}"]
    if point:
        one = unstructured(narrowed(study, point))
        axes = {name: one[name] for name in ("vary", "alternatives") if one[name]}
        words += ["--set", *(f"{name}={_inline(value)}" for name, value in axes.items())]
    return shlex.join(words)


def _inline(value: Any) -> str:
    """A value in TOML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    # Texts and booleans are written alike in both languages, but for infinity and what is no
    # number, which JSON has not.
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
