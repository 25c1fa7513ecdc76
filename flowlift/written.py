"""Functions that Python holds, written down so that a study can name them."""

import ast
import builtins
import inspect
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .origin import package_version
from .sources import Named, from_file, of_package, remember


def written(made: Callable) -> tuple[Named, dict[str, str]]:
    """How a study names a function that Python holds, and its sources.

    A function of a package is named by its module; one of a file that is imported by its file; one
    of a script or a notebook by a file of its own, written from its source with the imports,
    functions, classes and constants that it uses.

    Args:
        made: a function or class.

    Returns:
        Its name and the digests of its sources.

    Raises:
        ValueError: for lambdas, closures, methods, and what has no source or uses what cannot be
            written down.
    """
    name = str(getattr(made, "__qualname__", ""))
    if not (inspect.isfunction(made) or inspect.isclass(made)) or not name.isidentifier():
        raise ValueError(
            f"a study's function must be one that is defined at the top of a file or cell, "
            f"but is {name or made!r} (lambdas, closures and methods cannot be written down); "
            "give it a name there, and its settings as arguments."
        )
    module = sys.modules.get(made.__module__)
    file = getattr(module, "__file__", None)
    if made.__module__ == "__main__" or file is None:
        text = _standing_alone(made)
        return Named(f"{name}.py", name), {f"{name}.py": remember(text)}
    if "." in made.__module__ or _is_installed(made.__module__):
        return Named(made.__module__, name), {made.__module__: of_package(made.__module__)}
    return Named(Path(file).name, name), from_file(Path(file))


def _is_installed(module: str) -> bool:
    return module in sys.stdlib_module_names or bool(package_version(module))


def _standing_alone(made: Callable) -> str:
    """A file of its own for a function of a script or notebook."""
    parts: dict[str, str] = {}
    _write_down(made, parts)
    imports = [text for text in parts.values() if text.startswith(("import ", "from "))]
    rest = [text for text in parts.values() if text not in imports]
    return "\n".join([*sorted(imports), *("\n" + text for text in rest)]) + "\n"


def _write_down(made: Any, parts: dict[str, str]) -> None:
    """The source of a function or class, after that of what it uses."""
    try:
        text = textwrap.dedent(inspect.getsource(made))
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {made.__qualname__!r} must be readable, but is not; put it into a file "
            "and name it file.py:name."
        ) from None
    scope = made.__globals__ if inspect.isfunction(made) else vars(sys.modules[made.__module__])
    # Before its dependencies, so that recursion ends; written after them.
    parts[made.__name__] = ""
    for name in sorted({n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}):
        if name in scope and name not in parts and not hasattr(builtins, name):
            _write_value(name, scope[name], made, parts)
    del parts[made.__name__]
    parts[made.__name__] = text


def _write_value(name: str, value: Any, user: Any, parts: dict[str, str]) -> None:
    if isinstance(value, types.ModuleType):
        parts[name] = f"import {value.__name__} as {name}"
    elif inspect.isfunction(value) or inspect.isclass(value):
        if value.__module__ == user.__module__ and "<" not in value.__qualname__:
            _write_down(value, parts)
        else:
            _write_import(name, value, parts)
    elif _is_literal(value):
        parts[name] = f"{name} = {value!r}"
    elif (origin := getattr(value, "__module__", None)) and _importable(origin, name, value):
        parts[name] = f"from {origin} import {name}"
    else:
        raise ValueError(
            f"{user.__qualname__!r} must use only imports, functions, classes and constants, but "
            f"uses {name!r}, a {type(value).__name__}; make it an argument, or put both into a "
            "file and name it file.py:name."
        )


def _write_import(name: str, value: Any, parts: dict[str, str]) -> None:
    outer, *inner = value.__qualname__.split(".")
    parts[name] = f"from {value.__module__} import {outer}" + ("" if inner else f" as {name}")
    if inner:
        parts[name] += f"\n{name} = {value.__qualname__}"


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _importable(module: str, name: str, value: Any) -> bool:
    return getattr(sys.modules.get(module), name, None) is value
