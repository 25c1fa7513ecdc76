"""Names beyond ASCII where the locale has no letters for them."""

import io
import os
import subprocess
import sys
import warnings

import pytest
from study_text import TINY

from flowlift import doing, spelling

# Python's two ways out of an ASCII locale are closed.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def under_ascii(*arguments, **options):
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | ASCII, timeout=300, **given
    )


def test_a_path_has_the_bytes_of_its_name_in_utf_8(tmp_path):
    script = (
        "import os, sys; from flowlift.spelling import path_of, text_of; p = path_of('t\\xe4st');"
        "os.mkdir(p); assert sys.getfilesystemencoding() == 'ascii';"
        "assert text_of(p.name) == 't\\xe4st' and text_of(sys.argv[1]) == '\\xfc'"
    )
    done = under_ascii("-c", script, "ü", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert os.listdir(os.fsencode(tmp_path)) == ["täst".encode()]


def test_a_path_that_the_locale_can_spell_stays_as_it_is():
    assert str(spelling.path_of("täst/ü")) == "täst/ü"
    assert spelling.text_of("täst") == "täst"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_prints_letters_that_it_has_not_as_escapes_and_bytes_of_paths_as_they_are(
    encoding,
):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    assert spelling.refuse_nothing(stream) == "strict"
    print("ä", "≤", "b\udcc3\udca4", end="", file=stream, flush=True)
    had = {"ascii": b"\\xe4 \\u2264", "latin-1": b"\xe4 \\u2264", "utf-8": "ä ≤".encode()}
    assert raw.getvalue() == had[encoding] + " bä".encode()


def test_what_the_library_prints_is_refused_by_no_stream(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    doing.say("the widest ±0.3 of täst")
    assert raw.getvalue() == b"the widest \\xb10.3 of t\\xe4st\n"


def test_a_warning_is_one_line_without_source():
    with doing.clean_streams():
        ours = warnings.formatwarning("a\nb", UserWarning, doing.__file__, 3, "found.append(x)")
        other = warnings.formatwarning("far", RuntimeWarning, "/x/user.py", 7, "np.exp(x)")
    assert ours == "flowlift: a b\n"
    assert other == "flowlift: RuntimeWarning: far (/x/user.py, line 7)\n"
    assert "found.append" in warnings.formatwarning("a", UserWarning, "f.py", 3, "found.append(x)")


@pytest.mark.slow  # Runs a study in two processes of its own, which import JAX.
def test_a_study_with_such_names_runs_is_asked_and_reported(tmp_path):
    (tmp_path / "mäß.py").write_text(
        "from hälp import f\ndef lösses():\n    return lambda o, t: f(o - t)\n", encoding="utf-8"
    )
    (tmp_path / "hälp.py").write_text("def f(x):\n    return (x**2).sum()\n", encoding="utf-8")
    text = 'loss = { kind = "mäß.py:lösses" }\n' + TINY.replace("tiny", "täst")
    (tmp_path / "tü.toml").write_text(text + "[question]\nlosses = [0.3]\n", encoding="utf-8")
    for words in (
        ["run", "tü.toml", "--workers", "1"],
        *([word, "results/täst"] for word in ("status", "success", "plot", "report", "export")),
    ):
        done = under_ascii("-m", "flowlift", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert b"exception" not in done.stdout
    page = (tmp_path / "results" / "täst" / "report.html").read_text(encoding="utf-8")
    assert "--output 'täst'" in page.replace("&#39;", "'")
