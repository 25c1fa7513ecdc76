"""Rows of measurements as JSON, and the tables that docs/benchmarks.md shows."""

import dataclasses
import json
import math
from pathlib import Path

EXACT = ("n", "k", "samples", "dtype", "architecture", "copies")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method on one case; "limit" is the machine's own, see `kernels.limit`."""

    n: int
    k: int
    samples: int
    dtype: str
    method: str
    median_s: float
    ratio_to_best_peer: float

    @property
    def case(self) -> tuple[str, int, int, int]:
        return self.dtype, self.n, self.k, self.samples


def merged(path: Path, rows: list[Row], add: bool) -> list[Row]:
    """Write the rows, after those of other cases that the file has if `add`; return all by case."""
    old = [Row(**row) for row in json.loads(path.read_text())] if add and path.exists() else []
    cases = {row.case for row in rows}
    rows = sorted([row for row in old if row.case not in cases] + rows, key=lambda row: row.case)
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    return rows


def wide(rows: list[Row]) -> list[dict]:
    """One line per case: times, and ratios of flowlift to the others."""
    cases: dict[tuple, dict[str, float]] = {}
    for row in rows:
        cases.setdefault(row.case, {})[row.method] = row.median_s
    return [_line(case, medians) for case, medians in cases.items()]


def _line(case: tuple, medians: dict[str, float]) -> dict:
    dtype, n, k, samples = case
    mine, derived = medians["flowlift"], ("HVP", "HVP, linearised", "limit")
    peers = {m: t for m, t in medians.items() if m not in derived and m != "flowlift"}
    in_jax = [t for m, t in peers.items() if "torch" not in m]
    ratios = {m: medians[m] / mine for m in derived[:2] if m in medians}
    return {
        "n": n,
        "k": k,
        "samples": samples,
        "dtype": dtype,
        "flowlift": mine,
        **peers,
        "x best JAX peer": min(in_jax, default=math.nan) / mine,
        "x best peer": min(peers.values(), default=math.nan) / mine,
        **ratios,
        "x limit": mine / medians["limit"],
    }


def table(cases: list[dict]) -> str:
    """Markdown: times in ms, the rest as ratios."""
    columns = list(dict.fromkeys(key for case in cases for key in case))
    ratios = [c for c in columns if c.startswith(("x ", "HVP"))]
    columns = [c for c in columns if c not in ratios] + ratios

    def cell(case: dict, column: str) -> str:
        value = case.get(column, math.nan)
        if column in EXACT:
            return str(value)
        scale = 1 if column in ratios else 1e3
        return "" if math.isnan(value) else f"{scale * value:.3g}"

    lines = [columns, ["---"] * len(columns), *([cell(c, name) for name in columns] for c in cases)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_docs(name: str, text: str) -> None:
    """Replace the table of this name in docs/benchmarks.md."""
    page = Path(__file__).parents[1] / "docs" / "benchmarks.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
