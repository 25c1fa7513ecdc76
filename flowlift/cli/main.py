"""The program `flowlift`: nothing heavy is imported before a command is known."""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ..doing import clean_streams, shown
from ..spelling import text_of
from .cite import citations
from .commands import (
    CheckTolerance,
    Cite,
    Compare,
    Doctor,
    Export,
    List,
    Plot,
    Report,
    Run,
    Status,
    Success,
)
from .outputs import existing_folder, folder_for, shard_of, usable_file, usable_folder
from .pipes import left_streams, readers_may_leave
from .saying import say_answer, say_remarks

StudyCommand = TypeVar("StudyCommand", Run, Compare)
Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Success, tyro.conf.subcommand("success")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[CheckTolerance, tyro.conf.subcommand("check-tolerance")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Cite, tyro.conf.subcommand("cite")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program `flowlift`.

    Whatever ends it early is one line on standard error; with the flag --debug, anywhere, the
    traceback stands before it.

    Args:
        arguments: the command line without the program's name; that of the process if None.

    Raises:
        SystemExit: with status 2 for a refused argument, and with tyro's own for a wrong flag; 1
            for what nobody foresaw; 130 after Ctrl-C; 141 when nobody reads what is printed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, given = _DEBUG in given, [word for word in given if word != _DEBUG]
    with clean_streams(), readers_may_leave():
        _answer(given, debug)


def _answer(given: list[str], debug: bool) -> None:
    try:
        with shown(f"flowlift {given[0]}") if given else contextlib.nullcontext():
            _obey(given)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and left_streams():
            raise
        if debug:
            traceback.print_exc()
        status, text = _last_words(error, given)
        print("flowlift:", " ".join(text.split()), file=sys.stderr)
        raise SystemExit(status) from None


def _obey(given: list[str]) -> None:
    if given[:1] == ["run"]:
        _run(given)
    elif given[:1] == ["compare"]:
        command, rest = _own_flags(Compare, given)
        _compare(command, _study(command, rest))
    else:
        command = _parse(given)
        if not isinstance(command, Run | Compare | List | Doctor):
            existing_folder(command.results)
        _COMMANDS[type(command)](command)


_DEBUG = "--debug"
# Those that compute keep what they finish.
_RESUMED = ("run", "check-tolerance")


def _last_words(error: BaseException, given: list[str]) -> tuple[int, str]:
    """The exit status and the line that an exception ends in."""
    if isinstance(error, KeyboardInterrupt):
        kept = "what was finished is kept; the same command goes on from there."
        return 130, f"interrupted; {kept if given[:1][0] in _RESUMED else 'nothing was kept.'}"
    from ..sweep.dask_executor import WorkersLost

    expected = ValueError | OSError | ImportError | WorkersLost
    if isinstance(error, expected) or str(error).startswith("Argument "):
        return 2, str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return 1, (
        f"not foreseen: {type(error).__name__} ({error}) at {place.filename}:{place.lineno}; "
        f"{_DEBUG} shows the full traceback, `flowlift doctor` what is here; please report it."
    )


def _parse(given: list[str]) -> Any:
    return tyro.cli(Command, args=given, prog="flowlift", description=_ABOUT)  # pyright: ignore


_ABOUT = "Exact gradient flow for random sparse lifts of small networks, and any equinox model."


def _own_flags(cls: type[StudyCommand], given: list[str]) -> tuple[StudyCommand, list[str]]:
    """The command with its own flags, and those of the study."""
    help_wanted = [flag for flag in given if flag in _HELP]
    if help_wanted and all(word.startswith("-") for word in given[1:]):
        _parse(given)
    own = [word for word in given[1:] if word not in help_wanted]
    prog = f"flowlift {given[0]}"
    command, rest = tyro.cli(cls, args=own, prog=prog, return_unknown_args=True)
    return command, [*rest, *help_wanted]


def _study(command: Run | Compare, flags: list[str]) -> Any:
    """The study, whose file gives the defaults of its flags."""
    _use_float64()
    from ..studies import read_study
    from .flags import with_flags

    # Values of a study are texts, unlike the paths that a command takes.
    flags, assigned = ([text_of(word) for word in words] for words in (flags, command.set))
    study = read_study(command.study, assigned, quick=getattr(command, "quick", False))
    return with_flags(study, flags, f"flowlift {type(command).__name__.lower()} {command.study}")


_HELP = ("-h", "--help")


def _run(given: list[str]) -> None:
    command, flags = _own_flags(Run, given)
    _use_float64()
    from ..sweep.executors import executor_of

    # Before anything heavy is imported, so that workers import meanwhile.
    wanted = not set(flags) & set(_HELP)
    engine = (command.workers, command.dask, command.patience) if wanted else (0, None, None)
    with executor_of(*engine) as executor:
        _run_study(command, _study(command, flags), executor)


def _run_study(command: Run, study, executor) -> None:
    from ..answers import as_text, study_of, summary
    from ..sweep import check_tolerance, complete_study, run_study

    output = folder_for(command.output, study.name)
    if command.until is None:
        if command.budget_runs is not None:
            raise ValueError(
                "Argument `budget_runs` must be given with `until` alone, but is "
                f"{command.budget_runs}; add --until half-width W."
            )
        given: dict[str, Any] = {
            "executor": executor,
            "shard": shard_of(command.shard),
            "retry_failed": command.retry_failed,
            "every": command.every,
        }
        if given["shard"] != (0, 1) and not command.check_tolerance:
            complete_study(study, output, **given)
            _say_how_far(command, output)
            return
        results = run_study(study, output, **given)
    else:
        results = _run_until(command, study, output, executor)
    if command.check_tolerance:
        # After a sequential design the folder's study has more seeds than the file's.
        kept = study_of(results)
        seeds = min(CheckTolerance.seeds, kept.seeds)
        table = check_tolerance(kept, output, seeds=seeds, executor=executor)
        print(as_text(table, index=False), end="\n\n")
    if results.data_vars:
        print(as_text(summary(results)))
    say_remarks(results)
    print(f"\nResults: {output}. Figures: flowlift plot {output}. Page: flowlift report {output}")


def _say_how_far(command: Run, output: Path) -> None:
    """What a part of an array job says: results of all parts need not be read for it."""
    from ..store import as_text, status
    from ..store.cells import reread

    found = status(output, reread)
    if not found.done:
        print(f"Shard {command.shard} has no runs, and {output} holds none yet.")
    print(as_text(found))


def _run_until(command: Run, study, output: Path, executor):
    from ..sweep import coverage_after_stopping, run_until

    assert command.until is not None
    _, width = command.until
    for name, other in (("shard", "0/1"), ("retry_failed", False)):
        if getattr(command, name) != other:
            raise ValueError(
                f"Argument `{name}` must be left out with `until`, since all runs so far decide "
                f"which come next, but is {getattr(command, name)!r}; several masters on one "
                "folder may run the same command instead."
            )
    if command.budget_runs is None:
        raise ValueError(
            "Argument `budget_runs` must be given with `until`, but is missing; give the number "
            "of runs that there may be, e.g. --budget-runs 2000."
        )
    spent = run_until(
        study,
        output,
        half_width=width,
        budget_runs=command.budget_runs,
        executor=executor,
        every=command.every,
    )
    question, nominal = study.question, 100 * study.question.level
    covered = coverage_after_stopping(
        width, first=study.seeds, chunk=study.seeds_a_cell, level=question.level
    )
    print(
        f"{spent.runs} runs; the widest interval is +-{spent.widest:.3f}. Stopped by their width, "
        f"{nominal:g}% intervals cover with at least {100 * covered:.1f}%.\n"
    )
    return spent.results


def _status(command: Status) -> None:
    from ..store import as_text, status

    def reread(directory: Path) -> Any:
        _use_float64()
        from ..store.cells import reread

        return reread(directory)

    print(as_text(status(command.results, reread)))


def _export(command: Export) -> None:
    _use_float64()
    from ..store import export, load

    output = usable_file(command.output or command.results / "export")
    results = load(command.results)
    print(export(results, output, command.format, along=command.along))
    say_remarks(results)


def _compare(command: Compare, study) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from ..compare import compare_on_study
    from ..plot import save_comparison

    output = folder_for(command.output, study.name, "compare")
    results = compare_on_study(
        study,
        size=command.size,
        solvers=command.solvers,
        rtols=command.rtols,
        max_gradients=command.max_gradients,
        repeats=command.repeats,
        cost_ratio=command.cost_ratio,
        progress=True,
    )
    print()
    for file in save_comparison(results, output):
        print(file)


def _plot(command: Plot) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from ..answers import study_of
    from ..plot import save_figures
    from ..store import load

    output = usable_folder(command.output or command.results / "figures")
    results = load(command.results)
    asked = study_of(results).question
    settings = {"suffix": command.suffix, "more": command.figure, "width": command.width}
    for file in save_figures(results, output, question=asked, **settings):
        print(file)
    say_remarks(results)


def _success(command: Success) -> None:
    from ..answers import answers
    from ..answers.questions import ANSWERED
    from ..store import load

    results = load(command.results, variables=ANSWERED)
    question = _question(command, results)
    for answer in answers(results, question):
        say_answer(answer, question, results)
    say_remarks(results)


def _question(command: Success | Report, results):
    from ..answers import question_of

    return question_of(
        results,
        losses=command.loss,
        times=command.time,
        delta=command.delta,
        on=command.on,
    )


def _report(command: Report) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    _use_float64()
    from ..plot import write_report
    from ..store import load

    if command.output is not None:
        usable_file(command.output)
    otherwise = command.loss or command.time or command.delta is not None or command.on
    question = _question(command, load(command.results)) if otherwise else None
    settings = {"more": command.figure, "files": command.figures}
    print(write_report(command.results, command.output, question=question, **settings))


def _check_tolerance(command: CheckTolerance) -> None:
    _use_float64()
    from ..sweep.executors import executor_of

    with executor_of(command.workers) as executor:
        from ..answers import as_text, study_of
        from ..store import load
        from ..sweep import check_tolerance

        study = study_of(load(command.results))
        table = check_tolerance(study, command.results, seeds=command.seeds, executor=executor)
    print(as_text(table, index=False))


def _list(command: List) -> None:
    _use_float64()
    from .listing import listing

    print(listing(command.kind))


def _doctor(command: Doctor) -> None:
    before = dict(os.environ)
    _use_float64()
    from .doctor import report

    for line in report(before):
        print(line, flush=True)


_COMMANDS = {
    Plot: _plot,
    Success: _success,
    Status: _status,
    Export: _export,
    Report: _report,
    CheckTolerance: _check_tolerance,
    List: _list,
    Cite: lambda command: print(citations(command.results), end=""),
    Doctor: _doctor,
}


def _use_float64() -> None:
    """Settings that must precede JAX: 64-bit numbers, one BLAS thread a process."""
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
