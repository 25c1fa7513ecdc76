"""Schemas of the files of cells, the older ones brought to the present one."""

from collections.abc import Mapping

import numpy as np
import xarray

from ..flow import Outcome

# The first schema whose files end with a digest and know the name of their cell.
SEALED = 3


def counts_as_failed(code: str) -> bool:
    """Whether a result code is a failure: those of the solver, of the run, and the step limit."""
    outcome = Outcome(code)
    return outcome.failed or outcome is Outcome.STEP_LIMIT


def in_present_schema(data: xarray.Dataset) -> xarray.Dataset:
    """A file as the present schema has it, whichever it was written in.

    Schema 1 says neither why runs failed nor when and where they ended, schema 2 names versions
    for the whole file only.

    Args:
        data: the content of a file.

    Returns:
        It, or it with what it lacks.
    """
    schema = int(data.attrs["schema"])
    # What a cell holds is the same since: the fourth has folded files beside.
    if schema >= SEALED:
        return data
    codes = data["result"].values.astype(str)
    why = [Outcome(code).sentence if counts_as_failed(code) else "" for code in np.ravel(codes)]
    texts = {"reason": np.reshape(why, codes.shape), "ended": "", "host": ""} if schema < 2 else {}
    new = {
        name: (data["result"].dims, np.broadcast_to(text, codes.shape), dict(BESIDE[name]))
        for name, text in (texts | {"versions": versions_of(data.attrs)}).items()
    }
    return data.assign(new)


def versions_of(attrs: Mapping[str, object]) -> str:
    """What computed a file, from its attributes, as a text that is kept per run.

    Args:
        attrs: attributes `version_<library>`, `python`, `device` and `machine`.

    Returns:
        E.g. "flowlift 0.1.0, jax 0.5.0, python 3.12.1, device cpu, machine x86_64".
    """
    names = sorted(str(name) for name in attrs if str(name).startswith("version_"))
    names += [name for name in ("python", "device", "machine") if name in attrs]
    return ", ".join(f"{name.removeprefix('version_')} {attrs[name]}" for name in names)


# Texts that are kept beside a run's numbers.
BESIDE = {
    "reason": {"long_name": "why the run failed, empty if it did not", "units": "1"},
    "ended": {"long_name": "when the run ended, UTC, ISO 8601", "units": "1"},
    "host": {"long_name": "machine that computed the run", "units": "1"},
    "versions": {"long_name": "versions, device and kind of machine of the run", "units": "1"},
}
