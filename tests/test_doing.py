"""What goes on is said where somebody waits, and nowhere else."""

import io
import threading
import time

import pytest

from flowlift import doing


class Pipe(io.StringIO):
    """A stream that says whether it is a terminal, and knows when something was written."""

    def __init__(self, terminal: bool = False):
        super().__init__()
        self._terminal, self.written = terminal, threading.Event()

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        done = super().write(text)
        self.written.set()
        return done


def shown(stream: Pipe) -> doing.Shown:
    return doing.Shown("a command", stream, looks=0.01, first=0.01)


def test_into_a_pipe_a_silence_ends_in_a_line_that_says_what_runs():
    stream = Pipe()
    with shown(stream), doing.doing("reference", 1, 4), doing.doing("exprb"):
        assert stream.written.wait(20)
    line, *_ = stream.getvalue().splitlines()
    assert line.startswith("... 1 of 4 done, reference, exprb: ")
    assert line.endswith(" s")


def test_silences_become_longer_and_begin_anew_with_what_is_printed(capsys):
    stream = Pipe()
    with shown(stream) as there:
        assert stream.written.wait(20)
        assert there._pause > 0.01
        doing.say("a row")
        assert capsys.readouterr().out == "a row\n"
    assert stream.getvalue().startswith("... a command: ")
    assert doing._ACTIVE == []


def test_on_a_terminal_a_bar_says_what_runs_and_goes_with_its_context(monkeypatch):
    monkeypatch.setattr(doing, "_BAR_AFTER", 0.0)
    stream = Pipe(terminal=True)
    with shown(stream), doing.doing("rkc2 at rtol 0.001", 3, 8):
        assert stream.written.wait(20)
        deadline = time.monotonic() + 20
        while "rkc2" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    text = stream.getvalue()
    assert "3 of 8 done" in text
    assert "rkc2 at rtol 0.001" in text
    # Its last act is to leave the line empty.
    assert text.rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_what_has_a_bar_of_its_own_gets_no_other(monkeypatch):
    monkeypatch.setattr(doing, "_BAR_AFTER", 0.0)
    stream = Pipe(terminal=True)
    with shown(stream), doing.doing("computing cells", shows_itself=True):
        assert not stream.written.wait(0.2)


def test_nobody_is_told_where_nobody_waits(capsys):
    with doing.doing("a piece"):
        doing.say("a line")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a line\n", "")
    assert doing._PIECES == []


def test_pieces_end_with_what_they_raise():
    with pytest.raises(ZeroDivisionError), doing.doing("a piece"):
        raise ZeroDivisionError
    assert doing._PIECES == []


def test_a_context_within_another_shows_nothing_twice():
    outer, inner = Pipe(), Pipe()
    with doing.shown("outer", outer), doing.shown("inner", inner):
        assert len(doing._ACTIVE) == 1
    assert doing._ACTIVE == []
