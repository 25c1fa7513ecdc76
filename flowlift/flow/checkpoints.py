"""A flow on disk while it runs: written between legs, gone on with after a kill.

Where a leg ends does not depend on any clock, and a position is written to the last bit: a flow
that was killed and gone on with has the same numbers as one that was not. The clock decides only
after which legs a file is written.
"""

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..files import write_whole
from ..fingerprint import fingerprint
from ..showing import Card, shows_itself
from .checkpoint_files import HEADER, Arrays, ForeignCheckpoint, leg_path, leg_paths, read, save
from .choice import Automatic
from .engine import Engine
from .filled import without_empty_rows
from .forecast import Mark
from .held_out import HELD_OUT
from .integrals import errors_of, is_own, marked
from .methods import resolve_method
from .outcome import Outcome
from .problem import RECORDED, Problem
from .records import Checkpoint, Plan, Settings
from .solution import FlowSolution, FlowStats
from .trace import Trace
from .writings import Writings

_LIBRARIES = ("flowlift", "jax", "jaxlib", "diffrax", "equinox", "lineax", "optimistix")
# What changes the numbers of an unchanged program.
_CONFIGURED = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")


@shows_itself
class Checkpoints:
    """A file that keeps where a flow stands, for `solve(checkpoints=...)`.

    The file is written atomically between legs, at most once in `every` seconds, and never
    removed: called again after a kill, `solve` goes on from it. Cost: one copy of the position
    (a few vectors of the size of theta, and as many as a basis holds by then) and of the records
    so far, on disk.

    A file belongs to one flow: the same model, task and observers to the last bit, code included
    (`flowlift.fingerprint`), the same arguments, libraries and kind of device. Any other flow is
    refused its file.
    """

    def __init__(
        self,
        path: str | Path,
        every: float = 60.0,
        *,
        identity: str | None = None,
        on_leg: Callable[[Checkpoint], None] | None = None,
        lazily: bool = False,
    ):
        """Name the file.

        Args:
            path: the file, a NumPy `.npz` archive.
            every: least number of seconds between two writings, >= 0.
            identity: what there is to say of parts of the flow that cannot be looked into, such as
                an object of an extension module: a text that changes whenever they do. None: such
                parts are refused. All other parts are compared in either case.
            on_leg: called with the checkpoint after each leg.
            lazily: take the digest of the flow when the file is read or written, and not before:
                a part that cannot be known is refused then, and a flow that ends before its file
                is due costs none.

        Raises:
            ValueError: if `every` is negative or no number, or `identity` no text.
        """
        if not every >= 0:
            raise ValueError(
                f"Argument `every` must be a number of seconds of at least 0, but is {every!r}; "
                "give e.g. 60."
            )
        if not isinstance(identity, str | None):
            raise ValueError(
                f"Argument `identity` must be a text, but is {identity!r}; give one that changes "
                "whenever the flow does."
            )
        self.path = Path(path)
        self._every, self._given, self._on_leg = every, identity, on_leg
        self._writings = Writings(every)
        self._last: Checkpoint | None = None
        self._is_leg, self._lazily = False, lazily
        # A digest, once it has been taken.
        self._identity: Callable[[], str] = str
        self._legs: dict[int, Checkpoints] = {}

    def _card_(self) -> Card:
        return Card("Checkpoints", [("path", str(self.path)), ("every", f"{self._every:g} s")])

    def of_leg(self, turn: int) -> "Checkpoints":
        """The file of one leg of a flow whose graph changes: NAME.TURN with the same ending.

        Args:
            turn: how many rewirings came before.

        Returns:
            The file. All legs are written by one clock; the file of a leg that is finished stays.
        """
        options = {"identity": self._given, "on_leg": self._on_leg, "lazily": self._lazily}
        leg = Checkpoints(leg_path(self.path, turn), self._every, **options)
        leg._writings, leg._is_leg = self._writings, True
        self._legs[turn] = leg
        return leg

    def restore(self, settings: Settings, plan: Plan, engine: Engine) -> Checkpoint | None:
        """Where the flow stood when the file was written.

        Args:
            settings: those of the flow from its start.
            plan: what is to do.
            engine: which drives it.

        Returns:
            The checkpoint; None if there is no file.

        Raises:
            NotRead: if the system refuses to read the file.
            ForeignCheckpoint: if the file is torn, or of another flow.
            Unidentified: for a part of the flow that cannot be known, without `identity`.
        """
        self._identity = functools.cache(lambda: _identity(settings, plan, self._given))
        if not self._lazily:
            self._identity()
        if not self.path.exists():
            return None
        arrays = read(self.path)
        if json.loads(str(arrays[HEADER]))["identity"] != self._identity():
            raise ForeignCheckpoint(
                f"Argument `checkpoints` must name a file of this very flow, but "
                f"{str(self.path)!r} is one of other arguments or versions; remove it or choose "
                "another name."
            )
        return _unpack(arrays, settings, engine)

    def keep(self, checkpoint: Checkpoint, engine: Engine, *, at_once: bool = False) -> None:
        """Note where the flow stands after a leg, and write it if it is time to.

        Args:
            checkpoint: where it stands.
            engine: which drives it.
            at_once: write it whatever the time, since nothing comes after.
        """
        self._last = checkpoint
        if at_once or self._writings.due:
            self._writings.write(lambda: self._write(checkpoint, engine))
        if self._on_leg is not None and not at_once:
            self._on_leg(checkpoint)

    def finish(self, checkpoint: Checkpoint, engine: Engine) -> None:
        """Note the end of a leg between two rewirings: later ones go on from it.

        Args:
            checkpoint: where the leg ended.
            engine: which drives it.
        """
        if self._is_leg:
            self._last = checkpoint
            self._writings.later(lambda: self._write(checkpoint, engine))

    def _write(self, checkpoint: Checkpoint, engine: Engine) -> None:
        arrays = without_empty_rows(_pack(checkpoint, self._identity(), engine))
        write_whole(self.path, lambda temporary: save(temporary, arrays))

    def partial(self, outcome: Outcome) -> FlowSolution:
        """What is known of a flow that did not come to its end.

        Args:
            outcome: why not.

        Returns:
            The records up to the last leg of this process, else up to the file's; empty without
            either. Its model is None. For a flow whose graph changes see `partial_legs`.
        """
        if self._last is not None:
            return _partial(_records(self._last, ""), outcome)
        return partial(self.path, outcome)

    def partial_legs(self, outcome: Outcome) -> list[FlowSolution]:
        """As `partial`, of each leg that has begun, the graph having changed in between.

        Args:
            outcome: why the last one did not come to its end.

        Returns:
            The legs' records.
        """
        if not self._legs:
            return [partial(leg, outcome) for leg in leg_paths(self.path)]
        return [self._legs[turn].partial(outcome) for turn in sorted(self._legs)]


def partial(path: Path, outcome: Outcome) -> FlowSolution:
    """The records in a checkpoint file of a flow that did not come to its end.

    Args:
        path: the file.
        outcome: why it did not.

    Returns:
        The records, without a model; empty if there is no file, or a torn one.

    Raises:
        NotRead: if the system refuses to read it.
    """
    try:
        arrays = read(path)
    except (FileNotFoundError, ForeignCheckpoint):
        arrays = _records(None, "")
    return _partial(arrays, outcome)


def _identity(settings: Settings, plan: Plan, given: str | None) -> str:
    """A digest of all that determines the flow: data, code, settings, libraries, device."""
    method = settings.method
    flow = {
        "problem": settings.problem,
        "observers": [(each.name, each.function) for each in settings.observers],
        # What was chosen follows from the problem, and the field from it too.
        "solver": "auto" if settings.choice else (method.solver, method.controller, method.name),
        "numbers": (settings.tolerances, settings.precision, settings.max_steps),
        "plan": plan,
        "libraries": _versions(),
        "jax": {name: getattr(jax.config, name) for name in _CONFIGURED},
        "device": jax.default_backend(),
        "engine": settings.engine,
    }
    return fingerprint(flow, given=given)


@functools.cache
def _versions() -> list[str]:
    """Read once: it parses a file for each library, half of what an identity took."""
    return [importlib.metadata.version(name) for name in _LIBRARIES]


def _arrays(tree: PyTree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def _trainable(problem: Problem, model: PyTree) -> PyTree:
    """The leaves of a model that flow, None elsewhere: all others are those of the start."""
    return eqx.filter(
        model, jax.tree.map(lambda leaf: leaf is not None, problem.theta0, is_leaf=_is_none)
    )


def _is_none(leaf: object) -> bool:
    return leaf is None


def _pack(checkpoint: Checkpoint, identity: str, engine: Engine) -> Arrays:
    """Records and position: leaves in order, their structure left to be built again."""
    problem = checkpoint.settings.problem
    snapshots = (_trainable(problem, model) for model in checkpoint.trace.snapshots.values())
    return (
        _records(checkpoint, identity)
        | _numbered("position", engine.pack(checkpoint.position))
        | _numbered("snapshot", (leaf for part in snapshots for leaf in _arrays(part)))
    )


def _records(checkpoint: Checkpoint | None, identity: str) -> Arrays:
    """The part of a checkpoint that is a trajectory, with what its counts were."""
    trace = checkpoint.trace if checkpoint else Trace()
    stats, solver, solvers, precision, choice = FlowStats(), "", (), "float64", None
    engine, rates = "", None
    if checkpoint is not None and checkpoint.position is not None:
        settings = checkpoint.settings
        stats, solver = settings.stats(checkpoint.position, trace), settings.solver
        solvers, precision, choice = settings.solvers, settings.precision, settings.choice
        engine, rates = settings.engine, settings.rates
    header = {
        "identity": identity,
        "time": trace.time,
        "snapshots": list(trace.snapshots),
        "stats": dataclasses.asdict(stats),
        "judged": trace.judged,
        "solver": solver,
        "solvers": solvers,
        "precision": precision,
        "engine": engine,
        "rates": rates,
        "choice": choice and dataclasses.asdict(choice),
    }
    series = {f"record/{name}": trace.series(name) for name in trace.records}
    return {HEADER: np.asarray(json.dumps(header)), "times": np.asarray(trace.times), **series}


def _partial(arrays: Arrays, outcome: Outcome) -> FlowSolution:
    header, times = json.loads(str(arrays[HEADER])), arrays["times"]
    none = np.full(len(times), np.nan)
    records = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith("record/")}
    known = {*RECORDED, *HELD_OUT}
    observed = {n: values for n, values in records.items() if not (n in known or is_own(n))}
    seen_as = lambda name: marked(name, records, records.__getitem__)
    return FlowSolution(
        model=None,
        time=float(times[-1]) if len(times) else 0.0,
        result=outcome,
        times=times,
        **{n: seen_as(n) if n in records else none for n in RECORDED},  # pyright: ignore
        errors=errors_of(records, records.__getitem__),
        **{name: records[name] for name in HELD_OUT if name in records},
        observations={name: seen_as(name) for name in observed},
        snapshots={},
        stats=FlowStats(**header["stats"]),
        solver=header["solver"],
        solvers=tuple(header["solvers"]),
        precision=header["precision"],
        engine=header.get("engine", ""),
        rates=header.get("rates"),
    )


def _unpack(arrays: Arrays, settings: Settings, engine: Engine) -> Checkpoint:
    header = json.loads(str(arrays[HEADER]))
    if header["choice"] is not None:
        settings = _choose_again(settings, Automatic(**_tuples(header["choice"])))
    position = engine.unpack(settings, _in_order(arrays, "position"))
    theta0, rest = settings.problem.theta0, settings.problem.rest
    leaves, treedef = iter(_in_order(arrays, "snapshot")), jax.tree.structure(theta0)
    snapshots = {}
    for t in header["snapshots"]:
        part = [jnp.asarray(next(leaves)) for _ in range(treedef.num_leaves)]
        snapshots[t] = eqx.combine(jax.tree.unflatten(treedef, part), rest)
    stats = header["stats"]
    trace = Trace(
        time=header["time"],
        times=arrays["times"].tolist(),
        records={k.partition("/")[2]: [v] for k, v in arrays.items() if k.startswith("record/")},
        snapshots=snapshots,
        observation_gradients=stats["observation_gradients"],
        legs=stats["legs"],
        seconds=stats["seconds"],
        judged=Mark(*header["judged"]),
    )
    return Checkpoint(settings, position, trace)


def _choose_again(settings: Settings, choice: Automatic) -> Settings:
    """The settings once the solvers that the choice names had taken over."""
    rtol, atol = settings.tolerances
    name, problem = choice.names[-1], settings.problem
    method = resolve_method(name, rtol, atol, settings.precision, problem)
    return dataclasses.replace(settings, method=method, choice=choice)


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}


def _numbered(name: str, arrays: Iterable[np.ndarray]) -> Arrays:
    return {f"{name}/{i}": array for i, array in enumerate(arrays)}


def _in_order(arrays: Arrays, name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return [arrays[f"{name}/{i}"] for i in range(count)]
