"""`python -m tests.fuzz [--seconds 600] [--seed 0] [--family ends] [--case ends:17]`."""

import argparse
import math
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run cases until the time is over; 1 if any failed, each named by what repeats it."""
    options = _parse(arguments)
    os.environ["JAX_ENABLE_X64"] = "1"
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from . import checks, families, hard_families, manner_families, network_families, store_families

    known = families.FAMILIES | network_families.FAMILIES
    known = known | hard_families.FAMILIES | manner_families.FAMILIES | store_families.FAMILIES
    if options.case:
        family, _, number = options.case.partition(":")
        known[family](int(number))
        print(f"{options.case} passes")
        return 0
    names = options.family or list(known)
    found = fuzz({name: known[name] for name in names}, options.seconds, options.seed)
    for name, count in sorted(checks.HELD.items()):
        print(f"{name}: held {count} times")
    return report(*found)


def _parse(arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.fuzz", description="Random flows, checked.")
    parser.add_argument("--seconds", type=float, default=600.0, help="no case begins after these")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case x 1000")
    parser.add_argument("--family", action="append", help="only this one; may be repeated")
    parser.add_argument("--case", help="repeat one case, such as ends:17")
    return parser.parse_args(arguments)


def fuzz(families, seconds: float, seed: int, burst: int = 20, turns: float = math.inf):
    """Cases passed by family, and the errors of the others by name."""
    import jax

    end, passed, failed = time.monotonic() + seconds, Counter(), {}
    number, turn = 1000 * seed, 0
    while turn < turns and time.monotonic() < end:
        for name, run in families.items():
            for i in range(number + turn * burst, number + (turn + 1) * burst):
                if time.monotonic() >= end:
                    break
                try:
                    run(i)
                    passed[name] += 1
                except Exception as error:
                    failed[f"{name}:{i}"] = error
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{Path(last.filename).name}:{last.lineno} {last.name}"
                    text = str(error).replace("\n", " ")
                    print(f"{name}:{i} {type(error).__name__} ({where}) {text:.600}", flush=True)
        turn += 1
        # Every program holds a few mappings of memory, of which Linux allows a process 65,530.
        jax.clear_caches()
        print(f"... {sum(passed.values())} passed, {len(failed)} failed", flush=True)
    return passed, failed


def report(passed: Counter, failed: dict) -> int:
    """Print counts by family; 1 if any case failed."""
    for name, count in sorted(passed.items()):
        print(f"{name}: {count} passed")
    for name in failed:
        print(f"FAILED python -m tests.fuzz --case {name}")
    print(f"{sum(passed.values()) + len(failed)} cases, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
