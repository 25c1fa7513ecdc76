"""The commands of the program with their flags; field docstrings are the help."""

import dataclasses
from pathlib import Path
from typing import Literal

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
    patience: float | None = None
    """With --dask: seconds that cells wait while the scheduler has no workers; by default 3600."""
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
    suffix: Literal["png", "pdf", "svg"] = "png"
    """The format of the figures."""
    width: Literal["screen", "single", "double"] = "screen"
    """For a screen, or as wide as a column of a paper, captions in a file beside the figures."""
    figure: tuple[str, ...] = ()
    """Further figures: registered names, file.py:name or package.module:name, a function
    (data, ax) -> ax. Their code is executed."""


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
    on: Literal["training", "held out"] | None = None
    """Which loss: training, L itself, or "held out": whether that is met **at** each time, since it
    may rise again. By default the question's, or training."""


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
    on: Literal["training", "held out"] | None = None
    """As for `flowlift success`."""
    figure: tuple[str, ...] = ()
    """As for `flowlift plot`."""
    figures: Literal["svg", "pdf", "png"] | None = None
    """Write the figures too, in this format, into a folder `figures` beside the page."""


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
    """Budget of each run in gradients, a product counting as two; one that spends it is shown as a
    failure."""
    repeats: int = 1
    """Timed runs after a first one that compiles."""
    cost_ratio: float = 100.0
    """A peer is given up at this many times the least cost so far at its tolerance; inf: never."""
    output: Path | None = None
    """Folder of table, figure and data; by default results/NAME/compare."""
    set: tuple[str, ...] = ()
    """Assignments KEY=VALUE, as for `flowlift run`."""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show versions, devices, where compiled programs are kept, and what a small flow finds there.

    Each program of the flow is a hit, read from there, or a miss with its reason.
    """


@dataclasses.dataclass(frozen=True)
class Cite:
    """Print BibTeX of what a study's runs used: the paper, solvers, tasks, libraries."""

    results: tyro.conf.Positional[Path]
    """The folder that `flowlift run` wrote."""


@dataclasses.dataclass(frozen=True)
class List:
    """List what a study can name, with arguments, documentation and origin."""

    kind: tyro.conf.Positional[str] = "all"
    """modules, models, tasks, losses, edge_laws, weight_laws, observers, solvers, stops, figures;
    by default all."""
