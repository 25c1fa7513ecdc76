"""The program `flowlift`: nothing heavy is imported before a command is known."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a study: train its lifts by exact gradient flow, print the table, keep the results.

    Every value of the study file is a flag too; `flowlift run STUDY.toml --help` lists them.
    Finished cells are not run again.
    """

    study: tyro.conf.Positional[Path]
    """The study file (TOML)."""
    output: Path | None = None
    """Folder of results; by default results/NAME, after the study's name."""
    workers: int = 0
    """Worker processes; 0 computes in this one."""
    dask: str | None = None
    """Address of a Dask scheduler, such as tcp://host:8786, whose workers compute instead."""
    shard: str = "0/1"
    """I/N does only the I-th of N disjoint parts (I from 0): array jobs that share a folder."""
    retry_failed: bool = False
    """Run those that failed again: step limit, NaN, out of memory, crash. Else they are results."""
    every: float = 60.0
    """Seconds after which finished runs, and the place where a long run stands, are written."""
    quick: bool = False
    """Run the smaller grid of the file's table `quick`."""
    until: tuple[Literal["half-width"], float] | None = None
    """half-width W: add seeds where the interval at the study's question is widest, until half
    its width is at most W at every size."""
    budget_runs: int | None = None
    """With --until: how many runs there may be in all."""
    check_tolerance: bool = False
    """Afterwards, as `flowlift check-tolerance`."""
    set: tuple[str, ...] = ()
    """Assignments KEY=VALUE in TOML, made before the file is checked, for whole tables: --set
    'module={kind="attention", tokens=8, channels=8}'."""


@dataclasses.dataclass(frozen=True)
class Status:
    """Show how far a study is: done, running, failed and why, missing, time left."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` writes."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a study's results as one file for other programs."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""
    format: Literal["csv", "parquet", "zarr", "netcdf"] = "csv"
    """csv and parquet hold a row per run, or with --along a row per run and save time; netcdf and
    zarr the whole labelled dataset."""
    along: bool = False
    """For csv and parquet: the records along the flows instead of the runs."""
    output: Path | None = None
    """The file; by default RESULTS/export with the format's ending."""


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw the figures of a study's results."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""
    output: Path | None = None
    """Folder of figures; by default RESULTS/figures."""
    suffix: str = "png"
    """png, pdf or svg."""


@dataclasses.dataclass(frozen=True)
class Success:
    """Print with which probability the flow reaches a loss, per lift size, and from which size."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""
    loss: tuple[float, ...] = ()
    """The losses eps that count as converged; by default those of the study's [question]."""
    time: tuple[float, ...] = ()
    """By which flow times; by default those of the study's question, or the end of each flow."""
    delta: float | None = None
    """The failure probability allowed by the learning number; by default the question's, or 0.1."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page: the answer, all figures and tables, the study."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""
    output: Path | None = None
    """The file; by default RESULTS/report.html."""
    loss: tuple[float, ...] = ()
    """As for `flowlift success`."""
    time: tuple[float, ...] = ()
    """As for `flowlift success`."""
    delta: float | None = None
    """As for `flowlift success`."""


@dataclasses.dataclass(frozen=True)
class CheckTolerance:
    """Run a few seeds again at a tenth of the tolerances: does the loss change, do verdicts?"""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""
    seeds: int = 3
    """How many seeds of each size."""
    workers: int = 0
    """Worker processes; 0 computes in this one."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare solvers on one lift of a study: work against achieved error.

    Errors are measured against a reference of another family of solvers; failures are shown as
    failures. Every value of the study file is a flag too.
    """

    study: tyro.conf.Positional[Path]
    """The study file (TOML)."""
    solvers: tuple[str, ...] = ("auto", "bdf", "rkc2", "exprb", "tsit5", "kvaerno5")
    """Names of solvers: ours, diffrax:NAME, scipy:LSODA (BDF, Radau, DOP853), sundials:cvode, or
    gd:LEARNING_RATE, gradient descent on the same axis t = learning rate x steps."""
    rtols: tuple[float, ...] = (1e-3, 1e-5)
    """Relative tolerances."""
    size: int | None = None
    """Lift size; by default the first of the study."""
    max_gradients: float = 1e6
    """Budget of each run; one that spends it is shown as a failure."""
    repeats: int = 1
    """Timed runs after a first one that compiles."""
    output: Path | None = None
    """Folder of table, figure and data; by default results/NAME/compare."""
    set: tuple[str, ...] = ()
    """Assignments KEY=VALUE, as for `flowlift run`."""


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
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program `flowlift`.

    Args:
        arguments: the command line without the program's name; that of the process if None.

    Raises:
        SystemExit: with status 2 for a refused argument, and with tyro's own for a wrong flag.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["run"]:
            _run(given)
        elif given[:1] == ["compare"]:
            command, rest = _own_flags(Compare, given)
            _compare(command, _study(command, rest))
        else:
            command = _parse(given)
            _COMMANDS[type(command)](command)
    except (ValueError, OSError, ImportError) as error:
        print(f"flowlift: {error}", file=sys.stderr)
        raise SystemExit(2) from None


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
    from ..experiments import Study, read_study

    return tyro.cli(
        Study,
        default=read_study(command.study, command.set, quick=getattr(command, "quick", False)),
        args=flags,
        prog=f"flowlift {type(command).__name__.lower()} {command.study}",
        config=(tyro.conf.AvoidSubcommands,),
    )


_HELP = ("-h", "--help")


def _run(given: list[str]) -> None:
    command, flags = _own_flags(Run, given)
    _use_float64()
    from ..workers import executor_of

    # Before anything heavy is imported, so that workers import meanwhile.
    wanted = not set(flags) & set(_HELP)
    with executor_of(command.workers * wanted, command.dask if wanted else None) as executor:
        _run_study(command, _study(command, flags), executor)


def _run_study(command: Run, study, executor) -> None:
    from ..experiments import as_text, check_tolerance, run_study, study_of, summary

    output = command.output or Path("results") / study.name
    if command.until is None:
        results = run_study(
            study,
            output,
            executor=executor,
            shard=_shard(command.shard),
            retry_failed=command.retry_failed,
            every=command.every,
        )
    else:
        results = _run_until(command, study, output, executor)
    if command.check_tolerance:
        # After a sequential design the folder's study has more seeds than the file's.
        kept = study_of(results)
        seeds = min(CheckTolerance.seeds, kept.seeds)
        table = check_tolerance(kept, output, seeds=seeds, executor=executor)
        print(as_text(table, index=False), end="\n\n")
    print(as_text(summary(results)))
    print(f"\nResults: {output}. Figures: flowlift plot {output}. Page: flowlift report {output}")


def _run_until(command: Run, study, output: Path, executor):
    from ..experiments import coverage_after_stopping, run_until

    assert command.until is not None
    _, width = command.until
    if command.budget_runs is None:
        raise ValueError(
            "Argument `budget_runs` must be given with `until`, but is missing; give the number "
            "of runs that there may be, e.g. --budget-runs 2000."
        )
    spent = run_until(
        study, output, half_width=width, budget_runs=command.budget_runs, executor=executor
    )
    question, nominal = study.question, 100 * study.question.level
    covered = coverage_after_stopping(
        width, first=study.seeds, chunk=study.chunk, level=question.level
    )
    print(
        f"{spent.runs} runs; the widest interval is +-{spent.widest:.3f}. Stopped by their width, "
        f"{nominal:g}% intervals cover with at least {100 * covered:.1f}%.\n"
    )
    return spent.results


def _status(command: Status) -> None:
    from ..ledger import as_text, status

    def reread(directory: Path) -> None:
        _use_float64()
        from ..experiments.store import reread

        reread(directory)

    print(as_text(status(command.results, reread)))


def _export(command: Export) -> None:
    _use_float64()
    from ..experiments import export, load

    output = command.output or command.results / "export"
    print(export(load(command.results), output, command.format, along=command.along))


def _compare(command: Compare, study) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from ..experiments import compare_on_study, comparison_table
    from ..plot import save_comparison

    output = command.output or Path("results") / study.name / "compare"
    results = compare_on_study(
        study,
        size=command.size,
        solvers=command.solvers,
        rtols=command.rtols,
        max_gradients=command.max_gradients,
        repeats=command.repeats,
    )
    print(comparison_table(results).to_string(index=False))
    for file in save_comparison(results, output):
        print(file)


def _plot(command: Plot) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from ..experiments import load, study_of
    from ..plot import save_figures

    output, results = command.output or command.results / "figures", load(command.results)
    asked = study_of(results).question
    for file in save_figures(results, output, suffix=command.suffix, question=asked):
        print(file)


def _success(command: Success) -> None:
    from ..experiments import answers, as_text, in_words, load, variant_name

    results = load(command.results)
    question = _question(command, results)
    for answer in answers(results, question):
        print(f"P({answer.event})\n{as_text(answer.table)}\n")
        for variant, number, generous in answer.numbers:
            where = f" ({variant_name(variant)})" if variant else ""
            print(f"Learning number at delta = {question.delta:g}{where}: {in_words(number)}.")
            if generous != number:
                print(f"  If all undecided flows converged: {in_words(generous)}.")
        print()


def _question(command: Success | Report, results):
    from ..experiments import question_of

    return question_of(results, losses=command.loss, times=command.time, delta=command.delta)


def _report(command: Report) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    _use_float64()
    from ..experiments import load
    from ..plot import write_report

    otherwise = command.loss or command.time or command.delta is not None
    question = _question(command, load(command.results)) if otherwise else None
    print(write_report(command.results, command.output, question=question))


def _check_tolerance(command: CheckTolerance) -> None:
    _use_float64()
    from ..workers import executor_of

    with executor_of(command.workers) as executor:
        from ..experiments import as_text, check_tolerance, load, study_of

        study = study_of(load(command.results))
        table = check_tolerance(study, command.results, seeds=command.seeds, executor=executor)
    print(as_text(table, index=False))


_COMMANDS = {
    Plot: _plot,
    Success: _success,
    Status: _status,
    Export: _export,
    Report: _report,
    CheckTolerance: _check_tolerance,
}


def _shard(text: str) -> tuple[int, int]:
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"Argument `shard` must read I/N, but is {text!r}; write e.g. 0/4.")
    return int(index), int(parts)


def _use_float64() -> None:
    """Settings that must precede JAX: 64-bit numbers, one BLAS thread a process."""
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
