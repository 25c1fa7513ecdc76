"""What a flow may have, with each other, from study files: kills, folding, float32, reports.

Pairs of a dynamics and an addition to the loss, each in one of the manners of running.
"""

import dataclasses

import numpy as np
import pytest

import flowlift
from flowlift import studies, sweep
from flowlift.cli import main
from flowlift.flow import checkpoints
from flowlift.leaves import flowing
from flowlift.store import load
from flowlift.store.folding import fold
from flowlift.store.names import CELLS, FOLDED
from flowlift.sweep.cell import dynamics_of, model_maker, study_task
from flowlift.sweep.checking import check_study

pytestmark = pytest.mark.slow  # Two dozen small studies, each of which compiles flows of its own.

BASE = """
name = "combined"
seeds = 2
chunk = 1
{top}
[module]
kind = "mlp"
inputs = 3
depth = 1
[lift]
sizes = [4]
edges = {{ kind = "bernoulli_in_degree", mean = 2 }}
[task]
kind = "gaussian_mixture"
inputs = 3
samples = 9
distance = 1.0
seed = 0
held_out = 5
[flow]
horizon = 1.0
per_decade = 2
loss_below = 0.3
stagnation = 1e-6
rtol = 1e-4
atol = 1e-7
[observe]
per_decade = 1
[observe.quantities]
where = {{ kind = "theta" }}
sharp = {{ kind = "sharpness" }}
{observed}
[question]
losses = [0.9]
on = "held out"
"""
DYNAMICS = {
    "plain": "",
    "heavy ball": 'kind = "heavy-ball"\nfriction = 1.0',
    "nesterov": 'kind = "nesterov"',
    "adam": 'kind = "adam"\ntau_1 = 0.1\ntau_2 = 1.0\nepsilon = 1e-3',
    "rmsprop": 'kind = "rmsprop"\ntau = 1.0\nepsilon = 1e-3',
    "central": 'kind = "central-flow"\nstep_size = 0.05\neigenvalues = 2',
    "log loss": 'kind = "log-loss"\nhomogeneity = 2.0',
}
TERM_TABLE = '[terms.mine]\nkind = "terms.py:made"\nweight = 0.01\n'
ADDED = {
    "nothing": "",
    "rates": '[rates]\n"x->h1" = "n"\n"*" = 0.5\n',
    "frozen": "",
    "decay": '[decay]\n"x->h1" = 0.1\n"*" = 0.01\n',
    "noise": "[label_noise]\nnoise = 0.1\nseed = 1\n",
    "terms": TERM_TABLE,
    "centred": "[output]\nscale = 2.0\ncentred = true\n",
}
MANNERS = ("killed", "extended when folded", "float32", "killed in float32", "reported")
REFUSED = {("log loss", "decay"), ("log loss", "terms")}


def text_of(dynamics, added):
    lines = {"name": BASE}
    observed = 'balance = { kind = "imbalance" }' if dynamics == "plain" else ""
    top = 'loss = { kind = "exponential" }' if dynamics == "log loss" else ""
    if added == "frozen":
        top += '\nfrozen = ["x->h1"]'
    text = lines["name"].format(top=top, observed=observed) + ADDED[added]
    return text + (f"[flow.dynamics]\n{DYNAMICS[dynamics]}\n" if DYNAMICS[dynamics] else "")


def read(tmp_path, dynamics, added, *overrides):
    (tmp_path / "terms.py").write_text(
        "def made(weight):\n"
        "    return lambda model: weight * sum((w**4).sum() for w in model.weights.values())\n"
    )
    path = tmp_path / "study.toml"
    path.write_text(text_of(dynamics, added))
    return studies.read_study(path, overrides)


def direct(study, size, seed):
    """The flow of one run by `solve`, and its task."""
    plan, model = study.flow, model_maker(study)(size, seed)
    task = study_task(study, model)
    run = flowlift.solve(
        model, task, plan.horizon, rtol=plan.rtol, atol=plan.atol, save=plan.schedule,
        stops=plan.stops, precision=study.precision, dynamics=dynamics_of(study),
        trainable=flowing(model, study.frozen or ()), rates=study.rates_of(model, size),
        snapshots=study.observe.times(plan.horizon)[1:].tolist(),
    )  # fmt: skip
    return run, task, model


class Killed(BaseException):
    """Nothing in a run may catch it."""


def killed_once(monkeypatch):
    """The first checkpoint that is written is the last thing that the process does."""
    keep, seen = checkpoints.Checkpoints.keep, []

    def dying(self, checkpoint, engine):
        keep(self, checkpoint, engine)
        if not seen and self.path.exists():
            seen.append(self.path)
            raise Killed

    monkeypatch.setattr(checkpoints.Checkpoints, "keep", dying)
    return seen


ALL = [
    (dynamics, added, MANNERS[(i + j) % len(MANNERS)])
    for i, dynamics in enumerate(DYNAMICS)
    for j, added in enumerate(ADDED)
    if (dynamics, added) not in REFUSED
]


# A third of the 47 is enough to be run again and again.
@pytest.mark.parametrize(("dynamics", "added", "manner"), ALL[::3])
def test_a_study_of_all_at_once_has_the_numbers_of_its_flows(
    tmp_path, monkeypatch, capsys, dynamics, added, manner
):
    single = "float32" in manner
    overrides = ['precision="float32"', "flow.rtol=1e-3"] * single
    if manner.startswith("killed"):
        # So many steps that a leg does not hold them.
        single_or_double = (
            ["flow.rtol=1e-6", "flow.horizon=200.0"],
            ["flow.rtol=1e-9", "flow.horizon=3.0"],
        )
        overrides += [*single_or_double[not single], "flow.loss_below=1e-9"]
    study = read(tmp_path, dynamics, added, *overrides)
    store = tmp_path / "results"
    if manner.startswith("killed"):
        with monkeypatch.context() as patch:
            seen = killed_once(patch)
            with pytest.raises(Killed):
                sweep.run_study(study, store, every=0.0)
        assert seen[0].exists()
    if manner == "extended when folded":
        sweep.run_study(study, store)
        assert fold(store) or any((store / CELLS).glob(f"{FOLDED}*"))
        study = dataclasses.replace(study, seeds=3)
    sweep.run_study(study, store)
    data = load(store)
    for seed in (0, study.seeds - 1):
        run, task, model = direct(study, 4, seed)
        found = data.sel(size=4, seed=seed).squeeze()
        whole = task.objective
        whole = whole.of(model) if hasattr(whole, "of") and added != "frozen" else whole
        assert run.loss[0] == pytest.approx(float(whole(model)), rel=1e-5 if single else 1e-12)
        assert float(found.final_loss) == run.loss[-1]
        assert float(found.end_time) == run.time
        assert float(found.final_held_out_loss) == run.held_out_loss[-1]
        assert int(found.gradients) == run.stats.gradients
        for name in dynamics_of(study).records:
            on_grid = np.isin(run.times, found.time)
            kept = found[name].isel(time=np.isin(found.time, run.times)).values
            np.testing.assert_array_equal(kept, run.observations[name][on_grid], err_msg=name)
        last = max(run.snapshots)
        flat = np.concatenate([np.ravel(w) for w in run.snapshots[last].weights.values()])
        theta = found["where"].sel(observation_time=last).values
        np.testing.assert_array_equal(np.sort(theta[: flat.size]), np.sort(flat))
    if manner == "reported":
        for command in (["report"], ["plot"], ["success", "--on", "held out"], ["status"]):
            main([command[0], str(store), *command[1:]])
            assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(("dynamics", "added"), sorted(REFUSED))
def test_what_has_no_sense_is_refused_before_any_flow(tmp_path, dynamics, added):
    with pytest.raises(ValueError, match="must have a loss of samples alone for LogLoss"):
        check_study(read(tmp_path, dynamics, added))


@pytest.mark.parametrize("dynamics", [name for name in DYNAMICS if name != "plain"])
def test_the_law_of_an_imbalance_is_the_gradient_flows(tmp_path, dynamics):
    study = read(tmp_path, dynamics, "nothing", 'observe.quantities.balance={kind="imbalance"}')
    with pytest.raises(ValueError, match="imbalance must be left out of what is observed"):
        check_study(study)
