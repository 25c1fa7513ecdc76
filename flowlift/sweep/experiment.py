"""A study from Python: functions instead of words, the same store and the same answers."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray

from .. import registry
from ..numbers import plain_numbers
from ..showing import Card, shows_itself
from ..sources import Named
from ..spelling import path_of
from ..studies.records import FlowPlan, LiftPlan, Study
from ..studies.structure import unstructured
from ..studies.toml import found_word, structure_study, to_toml
from ..written import written
from .executors import executor_of
from .run import run_study

_KIND = {"edges": "edge_law", "weights": "weight_law"}


@shows_itself
@dataclasses.dataclass(frozen=True)
class Experiment:
    """A study that Python holds, ready to run.

    Attributes:
        study: the record, as a study file would give it.
    """

    study: Study

    @property
    def toml(self) -> str:
        """The study as a study file, every default written out."""
        return to_toml(self.study)

    def run(
        self,
        output: str | Path | None = None,
        *,
        workers: int = 0,
        dask: str | None = None,
        patience: float | None = None,
        **options: Any,
    ) -> xarray.Dataset:
        """Run what is not there yet, and load the results.

        Args:
            output: the folder of results; by default results/NAME.
            workers: processes to spawn; 0 computes in this one. In a script, they need the usual
                guard: if __name__ == "__main__".
            dask: the address of a Dask scheduler instead.
            patience: with it, seconds that cells wait while there are no workers.
            **options: as for `run_study`: shard, retry_failed, every, progress.

        Returns:
            The results, as `flowlift.store.load` gives them.

        Raises:
            ValueError: if the study could not be run; nothing is written then.
        """
        place = Path("results") / path_of(self.study.name) if output is None else output
        with executor_of(workers, dask, patience) as executor:
            return run_study(self.study, place, executor=executor, **options)

    def _card_(self) -> Card:
        return self.study._card_()._replace(title=f"Experiment {self.study.name!r}")

    def __str__(self) -> str:
        """The study as a study file."""
        return self.toml


@plain_numbers
def study(
    *,
    task: Any,
    sizes: Sequence[int],
    horizon: float,
    name: str = "study",
    module: Any = None,
    model: Any = None,
    edges: Any = None,
    loss: Any = None,
    solver: Any = None,
    observers: Mapping[str, Any] | None = None,
    rules: Mapping[str, Any] | None = None,
    frozen: Sequence[str] | None = None,
    question: Mapping[str, Any] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> Experiment:
    """A study from Python, with one's own functions in any place where a file has a `kind`.

    A choice (module, model, task, edges, weights, loss, solver, an observer, a rule) is a
    registered name, a function, `functools.partial(function, argument=...)`, a registered record
    such as `FixedInDegree(4)`, or a dict {"kind": name, argument: value}. Functions are written
    down: their source enters the identity of each run, is kept with the results and sent to
    workers.

    Args:
        task: a function (own arguments) -> Task.
        sizes: of the lifts or models.
        horizon: the end T of the flows, in learning rate x steps of this loss.
        name: a short name.
        module: a function (own arguments) -> PerceptronModule, whose lifts are trained.
        model: instead, a function (size, seed, own arguments) -> any pytree.
        edges: the edge law of lifts.
        loss: a loss of one sample instead of the task's own.
        solver: a solver; "auto" by default.
        observers: functions (model) or (model, task) -> array, by name.
        rules: stopping rules of one's own, by name.
        frozen: base edges, or paths of leaves, that do not flow.
        question: keys of the table [question], such as losses and delta.
        vary: further axes: dotted keys with the values that each takes.
        **settings: keys of `Study`, `LiftPlan` and `FlowPlan`, such as seeds, precision, weights,
            size_counts, rtol, loss_below, per_decade; and observe_per_decade, observe_first_time.

    Returns:
        The experiment; nothing is computed yet.

    Raises:
        ValueError: for an unknown key, a function that cannot be written down, or what a study
            file with these values would be refused for.
    """
    raw: dict[str, Any] = {"name": name, "flow": {"horizon": horizon}}
    found: dict[str, Mapping[str, str]] = {}
    choose = functools.partial(_choice, found)
    raw["task"] = choose("task", task)
    if model is not None:
        raw |= {"model": choose("model", model), "sizes": _plain(list(sizes))}
    if module is not None or edges is not None:
        if module is None or edges is None:
            raise ValueError(
                "Arguments `module` and `edges` must be given together, but one is None; give "
                'both, e.g. edges="complete".'
            )
        raw["module"] = choose("module", module)
        raw["lift"] = {"sizes": _plain(list(sizes)), "edges": choose("edge_law", edges)}
    given = {"loss": loss, "frozen": frozen, "question": question, "vary": vary}
    for key, value in given.items():
        if value is not None:
            raw[key] = choose("loss", value) if key == "loss" else _plain(value)
    if solver is not None:
        raw["flow"]["solver"] = choose("solver", solver)
    if rules:
        raw["flow"]["rules"] = {n: choose("stop", rule) for n, rule in rules.items()}
    if observers:
        quantities = {n: choose("observer", function) for n, function in observers.items()}
        raw["observe"] = {"quantities": quantities}
    for key, value in settings.items():
        _place(raw, key, value, choose)
    if "observe" in raw and not observers:
        raise ValueError(
            "Argument `observers` must name what is observed where `observe_per_decade` or "
            "`observe_first_time` is given, but is missing; add it, or leave them out."
        )
    return Experiment(_structured(raw, found))


def _structured(raw: dict[str, Any], found: Mapping[str, Mapping[str, str]]) -> Study:
    """The study of plain values, whose functions' sources have been found already."""
    named = {"sources": {name: dict(files) for name, files in found.items()}} if found else {}
    return structure_study(raw | named, execute=True)


def _place(raw: dict[str, Any], key: str, value: Any, choose: Callable[[str, Any], Any]) -> None:
    """Put a setting into the table whose key it is."""
    table = _table_of(key)
    if table is None:
        known = [f.name for cls in (Study, LiftPlan, FlowPlan) for f in dataclasses.fields(cls)]
        raise ValueError(
            f"Argument `{key}` must be a key of a study, but is none of {', '.join(known)}; "
            "correct it."
        )
    if key in ("weights", "edges"):
        value = choose(_KIND[key], value)
    elif key in ("edges_over", "weights_over"):
        value = {n: choose(_KIND[key.removesuffix("_over")], law) for n, law in value.items()}
    holder = raw.setdefault(table, {}) if table else raw
    holder[key.removeprefix("observe_") if table == "observe" else key] = _plain(value)


def _table_of(key: str) -> str | None:
    if key in ("observe_per_decade", "observe_first_time"):
        return "observe"
    for table, cls in (("", Study), ("lift", LiftPlan), ("flow", FlowPlan)):
        if key in {f.name for f in dataclasses.fields(cls)}:
            return table
    return None


def _choice(found: dict[str, Mapping[str, str]], kind: str, value: Any) -> Any:
    """A choice as a study file would write it; its sources are added to those found."""
    if isinstance(value, str):
        return _word(found, kind, value)
    if isinstance(value, Mapping):
        named = _choice(found, kind, value["kind"]) if "kind" in value else {}
        named = {"kind": named} if isinstance(named, str) else named
        return {key: _plain(item) for key, item in value.items()} | named
    if isinstance(value, functools.partial):
        if value.args:
            raise ValueError(
                f"Argument `{kind}` must give arguments by name, but {value.func} is given "
                f"{value.args} by position; write functools.partial(function, name=value)."
            )
        return _choice(found, kind, value.func) | {k: _plain(v) for k, v in value.keywords.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = registry.name_of(kind, type(value))
        if name is not None:
            return {"kind": name, **_plain(unstructured(value))}
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        raise ValueError(
            f"Argument `{kind}` must be a function, a registered name or a dict with its `kind`, "
            f"but is {type(value).__name__}; give the function that makes it, with its arguments "
            "by functools.partial."
        )
    word = registry.name_of(kind, value)
    if word is not None and registry.known(kind)[word].origin == "built in":
        return {"kind": word}
    return {"kind": _kept(found, kind, *written(value))}


def _word(found: dict[str, Mapping[str, str]], kind: str, word: str) -> Any:
    """What a name of the registry, a file or a package means; files are looked for here."""
    named = found_word(word, [Path.cwd()])
    if named is None and kind == "solver":
        return word
    return {"kind": word if named is None else _kept(found, kind, *named)}


def _kept(
    found: dict[str, Mapping[str, str]], kind: str, name: Named, files: dict[str, str]
) -> str:
    """Keep the sources of a name, which becomes the word of the study."""
    if found.setdefault(name.source, files) != files:
        raise ValueError(
            f"Argument `{kind}` must come from a source of its own name, but two sources of this "
            f"study are called {name.source!r}; rename one."
        )
    return str(name)


def _plain(value: Any) -> Any:
    """Lists and dicts of what TOML has; NumPy's numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value
