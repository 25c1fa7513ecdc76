"""Functions that Python holds, written down so that a study can name them."""

import ast
import inspect
import linecache
import symtable
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .origin import package_version
from .sources import Named, from_file, of_package, remember
from .spelling import text_of


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
        return Named(f"{name}.py", name), {f"{name}.py": remember(text), **_files_used(text)}
    if "." in made.__module__ or _is_installed(made.__module__):
        home = _public_home(made)
        return Named(home, name), {home: of_package(home)}
    return Named(text_of(Path(file).name), name), from_file(Path(file))


def _public_home(made: Callable) -> str:
    """The package itself where a function is defined in a private module of it."""
    top = made.__module__.partition(".")[0]
    public = "._" not in made.__module__
    if public or getattr(sys.modules.get(top), made.__name__, None) is not made:
        return made.__module__
    return top


def _is_installed(module: str) -> bool:
    return module in sys.stdlib_module_names or bool(package_version(module))


def _files_used(text: str) -> dict[str, str]:
    """Sources of files on the user's own path that a text imports: workers do not share it."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            file = getattr(sys.modules.get(name), "__file__", None) or ""
            if "." not in name and file.endswith(f"{name}.py") and not _is_installed(name):
                found |= from_file(Path(file))
    return found


def _standing_alone(made: Callable) -> str:
    """A file of its own for a function of a script or notebook."""
    parts: dict[str, str] = {}
    _write_down(made, parts)
    imports = [text for text in parts.values() if text.startswith(("import ", "from "))]
    rest = [text for text in parts.values() if text not in imports]
    return "\n".join([*sorted(imports), *("\n" + text for text in rest)]) + "\n"


def _write_down(made: Any, parts: dict[str, str]) -> None:
    """The source of a function or class, after that of what it uses."""
    text = textwrap.dedent(_source_of(made))
    scope = made.__globals__ if inspect.isfunction(made) else vars(sys.modules[made.__module__])
    # Before its dependencies, so that recursion ends; written after them.
    parts[made.__name__] = ""
    for name in sorted(_globals_of(symtable.symtable(text, made.__name__, "exec"))):
        if name in scope and name not in parts:
            _write_value(name, scope[name], made, parts)
            if isinstance(scope[name], types.ModuleType):
                parts[name] += _submodules(name, scope[name], text)
    del parts[made.__name__]
    parts[made.__name__] = text


def _globals_of(table: symtable.SymbolTable) -> set[str]:
    """Names that a text takes from around it; those of its own variables are none of them."""
    top = table.get_type() == "module"
    here = {
        s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())
    }
    return here.union(*map(_globals_of, table.get_children()))


def _submodules(name: str, module: types.ModuleType, text: str) -> str:
    """Imports of parts of a package that a text reaches through its name, as scipy.special."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        path = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if path.startswith(f"{name}."):
            found.add(module.__name__ + path[len(name) :])
    return "".join(f"\nimport {path}" for path in sorted(found) if path in sys.modules)


def _source_of(made: Any) -> str:
    try:
        return inspect.getsource(made)
    except (OSError, TypeError):
        text = _class_in_a_cell(made) if inspect.isclass(made) else None
    if text is None:
        raise ValueError(
            f"the source of {made.__qualname__!r} must be readable, but is not; put it into a file "
            "and name it file.py:name."
        )
    return text


def _class_in_a_cell(cls: type) -> str | None:
    """The source of a class of a notebook, which `inspect` looks for in the module's file."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for name, entry in reversed(list(linecache.cache.items())):
        # Entries of files have the time of their last change; a later cell goes first.
        if len(entry) < 4 or entry[1] is not None or name in files:
            continue
        text = "".join(entry[2])
        try:
            nodes = ast.parse(text).body
        except SyntaxError:
            continue
        for node in reversed(nodes):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\n"
    return None


def _write_value(name: str, value: Any, user: Any, parts: dict[str, str]) -> None:
    if isinstance(value, types.ModuleType):
        parts[name] = f"import {value.__name__} as {name}"
    elif inspect.isfunction(inner := _undecorated(value)) or inspect.isclass(value):
        value = inner
        if value.__module__ == user.__module__ and "<" not in value.__qualname__:
            _write_down(value, parts)
            if value.__name__ != name:
                parts[name] = f"{name} = {value.__name__}\n"
        else:
            _write_import(name, value, parts)
    elif _is_literal(value):
        parts[name] = f"{name} = {value!r}"
    elif (origin := _importable_as(name, value)) and origin[0] != user.__module__:
        parts[name] = f"from {origin[0]} import {origin[1]} as {name}"
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


def _undecorated(value: Any) -> Any:
    """The function that a decorator such as jax.jit wraps: its source holds the decorator."""
    inner = inspect.unwrap(value) if callable(value) else value
    return inner if inspect.isfunction(inner) and "<" not in inner.__qualname__ else value


def _importable_as(name: str, value: Any) -> tuple[str, str] | None:
    """The module that says it holds a value, and the value's name there."""
    module = str(getattr(value, "__module__", None))
    there = [n for n in (name, getattr(value, "__name__", name)) if _holds(module, n, value)]
    return (module, there[0]) if there else None


def _holds(module: str, name: str, value: Any) -> bool:
    return getattr(sys.modules.get(module), name, None) is value
