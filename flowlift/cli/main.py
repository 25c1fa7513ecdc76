"""The program `flowlift`: nothing heavy is imported before a command is known."""

import contextlib
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
    loss: float
    """The loss eps that counts as converged."""
    time: float | None = None
    """By which flow time; by default by the end of each flow."""
    delta: float = 0.1
    """The failure probability allowed by the learning number."""


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
            _run(*_with_study(Run, given))
        elif given[:1] == ["compare"]:
            _compare(*_with_study(Compare, given))
        else:
            command = _parse(given)
            _COMMANDS[type(command)](command)
    except (ValueError, OSError, ImportError) as error:
        print(f"flowlift: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _parse(given: list[str]) -> Any:
    return tyro.cli(Command, args=given, prog="flowlift", description=_ABOUT)  # pyright: ignore


_ABOUT = "Exact gradient flow for random sparse lifts of small networks, and any equinox model."


def _with_study(cls: type[StudyCommand], given: list[str]) -> tuple[StudyCommand, Any]:
    """The command's own flags first, then those of the study, whose defaults its file gives."""
    name = given[0]
    help_wanted = [flag for flag in given if flag in ("-h", "--help")]
    if help_wanted and all(word.startswith("-") for word in given[1:]):
        _parse(given)
    own = [word for word in given[1:] if word not in help_wanted]
    command, rest = tyro.cli(cls, args=own, prog=f"flowlift {name}", return_unknown_args=True)
    _use_float64()
    from ..experiments import Study, read_study

    study = tyro.cli(
        Study,
        default=read_study(command.study, command.set, quick=getattr(command, "quick", False)),
        args=[*rest, *help_wanted],
        prog=f"flowlift {name} {command.study}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    return command, study


def _run(command: Run, study) -> None:
    from ..experiments import as_text, run_study, summary

    output = command.output or Path("results") / study.name
    with _executor(command) as executor:
        results = run_study(
            study,
            output,
            executor=executor,
            shard=_shard(command.shard),
            retry_failed=command.retry_failed,
            every=command.every,
        )
    print(as_text(summary(results)))
    print(f"\nResults: {output}. Figures: flowlift plot {output}")


def _executor(command: Run) -> contextlib.AbstractContextManager:
    from ..experiments import dask_workers, spawned_workers

    if command.dask and command.workers:
        raise ValueError(
            f"Argument `workers` must be left out with `dask`, but is {command.workers}; the "
            "cluster has its own."
        )
    if command.dask:
        return dask_workers(command.dask)
    return spawned_workers(command.workers) if command.workers else contextlib.nullcontext()


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
    from ..experiments import load
    from ..plot import save_figures

    output = command.output or command.results / "figures"
    for file in save_figures(load(command.results), output, suffix=command.suffix):
        print(file)


def _success(command: Success) -> None:
    from ..experiments import as_text, learning_number, load, success_probability

    table = success_probability(load(command.results), command.loss, command.time)
    print(as_text(table))
    number = learning_number(table, command.delta)
    print(
        f"\nLearning number at delta = {number.delta:g}: estimate {number.estimate}; sizes up to "
        f"{number.above} excluded, certain from {number.at_most} (exact 95% intervals)."
    )


_COMMANDS = {Plot: _plot, Success: _success, Status: _status, Export: _export}


def _shard(text: str) -> tuple[int, int]:
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"Argument `shard` must read I/N, but is {text!r}; write e.g. 0/4.")
    return int(index), int(parts)


def _use_float64() -> None:
    """Settings that must precede JAX: 64-bit numbers, one BLAS thread a process."""
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
