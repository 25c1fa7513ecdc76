"""Where the vertices of a base graph stand in a drawing: in columns from inputs to outputs."""

from typing import Any


def places(module: Any) -> dict[str, tuple[int, int]]:
    """Column and row of each vertex, rows counted from below.

    The column is the length of the longest path from an input. Constants stand above all others.

    Args:
        module: a `PerceptronModule`.

    Returns:
        Places by name.
    """
    column: dict[str, int] = {}
    for name in module.order:
        entering = module.entering(name)
        column[name] = 1 + max((column[e.source] for e in entering), default=-1)
    constants = [v.name for v in module.vertices if type(v).__name__ == "Constant"]
    found, rows = {}, dict.fromkeys(column.values(), 0)
    for name in (n for n in module.order if n not in constants):
        found[name] = (column[name], rows[column[name]])
        rows[column[name]] += 1
    top = max(rows.values())
    return found | {name: (i, top) for i, name in enumerate(constants)}
