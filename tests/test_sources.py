"""Sources of a study: what a name means, and functions of a notebook written down."""

import linecache
import sys
import types

import pytest

from flowlift import sources, streams
from flowlift.written import written

CELL = '''
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import xml.etree.ElementTree
from math import tau as circle, hypot as length

WIDTH = 3
samples = np.zeros(2)


class Config:
    """Without a method."""

    offset: float = 0.5


class Late:
    def call(self):
        return later()


def later():
    return Late


def helper(z):
    return np.tanh(z) * WIDTH + Config.offset


other = helper


@jax.jit
def jitted(z):
    return jnp.sin(z) * circle


def sum(values):
    return 17


def plain():
    samples = 2
    return other(1.0) + samples + len([samples for samples in range(3)])


def compiled(z: "Config" = WIDTH):
    return float(jitted(z)) + length(3, 4)


def parts_of_packages():
    assert xml.etree.ElementTree.Element("a").tag == "a"
    return scipy.special.gamma(5.0) + sum([])


def mutual():
    return Late().call() is Late


def recursive(n=3):
    return n if n < 1 else recursive(n - 1)


def of_an_array():
    return samples.sum()
'''


@pytest.fixture
def notebook(monkeypatch):
    """The names of a cell, as in a notebook: a main module without a file."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    text = ("<cell 1>", CELL)
    monkeypatch.setitem(linecache.cache, text[0], (len(CELL), None, CELL.splitlines(True), text[0]))
    exec(compile(CELL, "<cell 1>", "exec"), vars(main))
    return vars(main)


@pytest.mark.parametrize(
    "name", ["plain", "compiled", "parts_of_packages", "mutual", "recursive", "helper"]
)
def test_a_function_of_a_notebook_becomes_a_file_that_stands_alone(name, notebook, monkeypatch):
    made = notebook[name]
    word, files = written(made)
    assert str(word) == f"{name}.py:{name}"
    assert list(files) == [f"{name}.py"]
    monkeypatch.delitem(sys.modules, "__main__")
    alone = sources.function(word, {word.source: files})
    assert alone is not made
    arguments = (0.3,) if name == "helper" else ()
    assert alone(*arguments) == made(*arguments)


def test_a_notebook_s_array_is_refused_by_name(notebook):
    with pytest.raises(ValueError, match="but uses 'samples', a ndarray; make it an argument"):
        written(notebook["of_an_array"])


def test_the_text_of_a_notebook_s_function_says_what_it_uses_and_no_more(notebook):
    word, files = written(notebook["plain"])
    text = sources.texts({word.source: files})[files[word.source]]
    assert "WIDTH = 3" in text
    assert "class Config" in text
    assert "jax" not in text
    assert "def sum" not in text


def test_files_that_a_notebook_imports_go_along(notebook, tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("def g():\n    return 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = "import beside_it\n\ndef f():\n    return beside_it.g()\n"
    monkeypatch.setitem(linecache.cache, "<cell 2>", (1, None, cell.splitlines(True), "<cell 2>"))
    exec(compile(cell, "<cell 2>", "exec"), notebook)
    word, files = written(notebook["f"])
    assert sorted(files) == ["beside_it.py", "f.py"]
    monkeypatch.delitem(sys.modules, "beside_it")
    (tmp_path / "beside_it.py").unlink()
    assert sources.function(word, {word.source: files})() == 3


def closure():
    def inner():
        return 1

    return inner


@pytest.mark.parametrize("made", [lambda: 1, closure(), types.SimpleNamespace().__init__, len, 3])
def test_what_cannot_be_written_down_is_refused(made):
    with pytest.raises(ValueError, match="must be one that is defined at the top of a file") as e:
        written(made)
    assert "\n" not in str(e.value)


def test_functions_are_named_by_file_or_package(tmp_path, monkeypatch):
    word, files = written(test_functions_are_named_by_file_or_package)
    assert str(word) == "test_sources.py:test_functions_are_named_by_file_or_package"
    assert list(files) == ["test_sources.py"]
    word, files = written(sources.named)
    assert str(word) == "flowlift.sources:named"
    assert files["flowlift.sources"].startswith("flowlift ")


@pytest.mark.parametrize("word", [":f", "gated.py:", "gated.py:two words", "a:b:c()"])
def test_names_have_two_parts(word):
    with pytest.raises(ValueError, match=r"must read file\.py:name or package\.module:name"):
        sources.named(word)


def test_plain_words_and_names_of_both_forms():
    assert sources.named("mlp") is None
    assert sources.named("code/gated.py:f") == sources.Named("code/gated.py", "f")
    assert not sources.named("package.module:f").is_file


def test_two_files_of_one_name_live_side_by_side(tmp_path):
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "half.py").write_text(f"N = {number}\n")
        (tmp_path / folder / "whole.py").write_text("import half\n\ndef f():\n    return half.N\n")
    word, values = sources.Named("whole.py", "f"), []
    for folder in "ab":
        files = sources.from_file(tmp_path / folder / "whole.py")
        values.append(sources.function(word, {"whole.py": files})())
    assert values == [1, 2]
    assert "half" not in sys.modules
    assert "whole" not in sys.modules


def test_another_version_of_a_package_is_refused_and_not_loaded_by_reading():
    recorded = {"flowlift.streams": {"flowlift.streams": "flowlift 0.0.0 sha256:00"}}
    word = sources.Named(streams.__name__, "stream")
    assert not sources.is_loaded(word, recorded)
    with pytest.raises(
        ValueError, match=r"must be the one that the study records, flowlift 0\.0\.0"
    ):
        sources.function(word, recorded)
    here = {"flowlift.streams": {"flowlift.streams": sources.of_package("flowlift.streams")}}
    assert sources.is_loaded(word, here)
    assert callable(sources.function(word, here))
