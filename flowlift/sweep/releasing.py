"""Programs of shapes that are done are dropped before the system refuses the process more memory.

Each compiled program takes a handful of memory mappings, of which Linux allows a process 65,530: a
worker that meets thousands of shapes would end there, with an error that speaks of memory.
"""

import contextlib
import gc
import itertools
from pathlib import Path

# Cells between two looks: one takes a millisecond for each thousand mappings.
_BETWEEN = 16
# Share of the mappings allowed at which programs are dropped; one shape takes some hundred.
_SHARE = 1 / 2
_MAPPINGS, _ALLOWED = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_CELLS = itertools.count(1)


def release_programs() -> bool:
    """Drop all compiled programs if there are many; those needed again are compiled again.

    Returns:
        Whether they were dropped; never where the system does not count mappings.
    """
    if next(_CELLS) % _BETWEEN:
        return False
    with contextlib.suppress(OSError, ValueError):
        if _MAPPINGS.read_bytes().count(b"\n") > _SHARE * int(_ALLOWED.read_text()):
            import jax

            jax.clear_caches()
            gc.collect()
            return True
    return False
