"""Readers that leave early, as `head` does, end a command without a word."""

import contextlib
import os
import sys

import pytest

from flowlift.cli import main, pipes

# The package's name for it is the function.
program = sys.modules["flowlift.cli.main"]


@contextlib.contextmanager
def nobody_reads():
    """Standard output is a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, contextlib.redirect_stdout(stream):
        yield


def status_of(arguments) -> object:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("status", "report", "run"))],
)
def test_a_command_that_nobody_reads_ends_without_a_word(arguments, capfd):
    with nobody_reads():
        assert status_of(arguments) == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", list(program._COMMANDS), ids=lambda command: command.__name__)
def test_every_command_of_its_own_may_lose_its_reader(command, monkeypatch, capfd):
    """Whatever a command prints, it prints to the same pipe."""
    monkeypatch.setitem(program._COMMANDS, command, lambda _: print("a line" * 10_000))
    monkeypatch.setattr(program, "existing_folder", lambda path: path)
    name = {"CheckTolerance": "check-tolerance"}.get(command.__name__, command.__name__.lower())
    given = [] if name in ("list", "doctor") else ["results"]
    with nobody_reads():
        assert status_of([name, *given]) == 141
    assert capfd.readouterr().err == ""


def test_a_pipe_of_somebody_else_is_a_fault_as_any(monkeypatch, capsys):
    """Of a worker, say: standard output has its reader."""

    def broken(_):
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr(program, "_obey", broken)
    assert status_of(["list"]) == 2
    assert "of a worker" in capsys.readouterr().err
    assert pipes.left_streams() == []


def test_a_closed_output_is_no_reader_that_left(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pipes.readers_may_leave():
        assert pipes.left_streams() == []
