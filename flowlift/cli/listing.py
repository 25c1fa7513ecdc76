"""What `flowlift list` prints: names, arguments, the first line of the documentation, origin."""

import inspect
from collections.abc import Iterator

from .. import registry, sources


def listing(kind: str) -> str:
    """The names of a kind, or of all.

    Args:
        kind: a kind or its plural, or "all".

    Returns:
        Text for a terminal.

    Raises:
        ValueError: for an unknown kind.
    """
    word = kind.replace("-", "_")
    if word == "all":
        return "\n\n".join(listing(plural) for plural in registry.PLURALS)
    one = registry.PLURALS.get(word, word)
    if one not in registry.KINDS:
        raise ValueError(
            f"Argument `kind` must be one of all, {', '.join(registry.PLURALS)}, but is {kind!r}; "
            "choose one."
        )
    lines = [f"{next(p for p, k in registry.PLURALS.items() if k == one)}:"]
    for entry in registry.known(one).values():
        lines += [f"  {line}" for line in _lines(entry)]
    return "\n".join(lines)


def _lines(entry: registry.Entry) -> Iterator[str]:
    function = entry.function or _imported(entry)
    if function is None:
        why = "cannot be imported here" if entry.target else "registered twice"
        yield f"{entry.name}  [{entry.origin}: {why}]"
        return
    given = ", ".join(str(p) for p in registry.parameters(entry.kind, function))
    yield f"{entry.name}({given})  [{entry.origin}]"
    yield f"    {(inspect.getdoc(function) or '').partition(chr(10))[0]}"


def _imported(entry: registry.Entry):
    """The function of an entry point, None if its package does not import."""
    named = sources.named(entry.target) if entry.target else None
    try:
        return sources.function(named, {}) if named else None
    except ValueError:
        return None
