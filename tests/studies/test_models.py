"""Studies of models that are no lifts, frozen leaves, and parameters observed."""

import jax
import jax.numpy as jnp
import numpy as np
import own_code
import pytest
import xarray

import flowlift
from flowlift import answers, plot, studies, sweep
from flowlift.leaves import flowing, leaf_names
from flowlift.studies.observations import Theta
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study
from flowlift.tasks import supervised

NETS = (
    own_code.GATED
    + '''

import equinox as eqx


def cnn(size: int, seed: int):
    """Equinox's layers: a convolution over the two coordinates, then a read-out."""
    keys = jax.random.split(jax.random.key(seed))
    layers = [
        eqx.nn.Lambda(lambda x: x[None]),
        eqx.nn.Conv1d(1, size, 2, key=keys[0]),
        eqx.nn.Lambda(lambda x: jnp.tanh(x)[:, 0]),
        eqx.nn.Linear(size, "scalar", key=keys[1]),
    ]
    return eqx.nn.Sequential(layers)
'''
)
FLAX = (
    own_code.GATED
    + '''

import equinox as eqx
from flax import nnx


class Net(nnx.Module):
    def __init__(self, size, rngs):
        self.inner = nnx.Linear(2, size, rngs=rngs)
        self.outer = nnx.Linear(size, 1, rngs=rngs)

    def __call__(self, x):
        return self.outer(jnp.tanh(self.inner(x)))[..., 0]


class Wrapped(eqx.Module):
    """Parameters that flow, and the rest of a flax model, which does not."""

    parameters: dict
    graph: nnx.GraphDef = eqx.field(static=True)

    def __call__(self, x):
        return nnx.merge(self.graph, self.parameters)(x)


def net(size: int, seed: int):
    graph, parameters = nnx.split(Net(size, nnx.Rngs(seed)))
    return Wrapped(nnx.to_pure_dict(parameters), graph)
'''
)


def read(folder, kind, task="two_moons", gated=own_code.GATED, sets=()):
    text = own_code.MODEL_STUDY.replace("gated.py:controls", kind)
    text = text.replace("moons_for_controls", task)
    return studies.read_study(own_code.write(folder, study=text, gated=gated), sets)


def kinds(folder):
    pytest.importorskip("flax")
    plain = read(folder / "plain", "gated.py:controls", "moons_for_controls")
    return {
        "plain": plain,
        "equinox": read(folder / "equinox", "gated.py:cnn", gated=NETS),
        "flax": read(folder / "flax", "gated.py:net", gated=FLAX),
    }


# Parameters of a model of size n: counted by hand.
PARAMETERS = {"plain": lambda n: 3 * n, "equinox": lambda n: 4 * n + 1, "flax": lambda n: 4 * n + 1}


def count(model) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(model) if hasattr(leaf, "size"))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_any_model_is_a_study(kind, tmp_path):
    study = kinds(tmp_path)[kind]
    check_study(study)
    make = model_maker(study)
    assert [count(make(n, 0)) for n in (2, 4)] == [PARAMETERS[kind](n) for n in (2, 4)]
    leaves = [jax.tree.leaves(make(2, seed)) for seed in (0, 0, 1)]
    arrays = [np.concatenate([np.ravel(x) for x in part if hasattr(x, "size")]) for part in leaves]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_dense_mlp_is_built_in(tmp_path):
    study = read(tmp_path, "dense_mlp", sets=["model.inputs=2", "model.outputs=1", "model.depth=1"])
    with pytest.raises(ValueError, match="outputs of the targets' shape"):
        check_study(study)
    assert count(model_maker(study)(5, 0)) == 5 * 2 + 5 + 5 + 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARAMETERS)
def test_any_model_is_run_asked_and_reported(kind, tmp_path):
    study = kinds(tmp_path)[kind]
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    counted = results["parameters"].values
    assert (counted == [[PARAMETERS[kind](n)] * 2 for n in (2, 4)]).all()
    assert not any(results["reason"].values.ravel())
    question = answers.question_of(results)
    (answer,) = answers.answers(results, question)
    assert list(answer.table["runs"]) == [2, 2]
    page = plot.write_report(tmp_path / "results").read_text()
    assert "controls" in page


# --- Frozen leaves --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_frozen_leaves_stand_still_and_the_others_flow_as_in_the_smaller_problem(
    precision, tmp_path
):
    study = read(
        tmp_path,
        "gated.py:controls",
        "moons_for_controls",
        sets=['frozen=["inner"]', f'precision="{precision}"'],
    )
    model, task = model_maker(study)(3, 1), study_task(study)
    objective = task.objective
    given = {"horizon": 1.0, "solver": "tsit5", "save": [1.0], "precision": precision}
    whole = flowlift.solve(model, task, trainable=flowing(model, study.frozen), **given)
    inner = np.asarray(model["inner"], precision)
    np.testing.assert_array_equal(whole.model["inner"], inner)
    assert np.abs(whole.model["outer"] - np.asarray(model["outer"], precision)).max() > 1e-3

    def apply(outer, xs):
        return (jnp.tanh(xs @ inner.T) @ outer["outer"].T)[:, 0]

    small = supervised(objective.inputs, objective.targets, apply=apply)
    alone = flowlift.solve({"outer": model["outer"]}, small, **given)
    # Both are followed to rtol = 1e-6 and differ in rounding alone.
    near = {"float64": 1e-9, "float32": 1e-5}[precision]
    np.testing.assert_allclose(whole.model["outer"], alone.model["outer"], rtol=near, atol=near)


def test_leaves_are_named_by_paths_or_their_ends():
    model = {
        "a": {"weight": jnp.ones(2), "bias": jnp.ones(1)},
        "b": {"weight": jnp.ones(3)},
        "n": 3,
    }
    assert leaf_names(model) == ["a.bias", "a.weight", "b.weight"]
    flows = {"a": {"weight": False, "bias": True}, "b": {"weight": False}, "n": False}
    assert flowing(model, ["weight"]) == flowing(model, ["*weight"]) == flows
    assert flowing(model, ["a.*"])["b"]["weight"]
    assert not flowing(model, ["a.*"])["a"]["bias"]


# --- Parameters observed --------------------------------------------------------------------------


def along(times, dtype=np.float64):
    """theta(t) = (t, -t, 2 t, ...) in two leaves."""
    return {
        float(t): {"a": jnp.asarray([t, -t], dtype), "b": jnp.asarray([[2 * t], [3 * t]], dtype)}
        for t in times
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_theta_is_kept_whole_or_by_leaves(dtype):
    models = along([0, 1, 5], dtype)
    whole = Theta().measure(models, None)
    np.testing.assert_array_equal(whole.values, np.outer([0, 1, 5], [1, -1, 2, 3]))
    assert whole.values.dtype == dtype
    part = Theta(leaves=("b",)).measure(models, None)
    np.testing.assert_array_equal(part.values, np.outer([0, 1, 5], [2, 3]))
    with pytest.raises(ValueError, match="'c' names none of a, b"):
        Theta(leaves=("c",)).measure(models, None)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_projections_have_one_direction_for_all_times_and_the_right_mean_square(dtype):
    # <theta, g / |g|>^2 has mean |theta|^2 / P and variance 2 (P - 1) / (P^2 (P + 2)) |theta|^4.
    count, size = 4000, 4
    series = Theta(projections=count).measure(along([1, 5], dtype), None)
    assert series.values.shape == (2, count)
    np.testing.assert_allclose(series.values[1], 5 * series.values[0], rtol=1e-4, atol=1e-6)
    squared = float(1 + 1 + 4 + 9)
    deviation = squared * np.sqrt(2 * (size - 1) / (size**2 * (size + 2)) / count)
    assert abs(np.mean(series.values[0] ** 2) - squared / size) < 5 * deviation
    again = Theta(projections=count).measure(along([1], dtype), None)
    # Directions are the same; sums of products round differently with the number of times.
    np.testing.assert_allclose(again.values[0], series.values[0], rtol=1e-3, atol=1e-5)
    other = Theta(projections=count, seed=1).measure(along([1], dtype), None)
    assert not np.array_equal(other.values[0], series.values[0])


def test_observations_of_different_lengths_are_joined_with_nan():
    from flowlift.store.joining import numbered

    parts = [
        xarray.Dataset({"theta": (("size", "theta_0"), [np.arange(n) + 1.0])}, {"size": [n]})
        for n in (2, 3)
    ]
    data = xarray.concat(numbered(parts), "size", join="outer")
    np.testing.assert_array_equal(data["theta"], [[1, 2, np.nan], [1, 2, 3]])
    even = [part.isel(theta_0=slice(2)) for part in parts]
    assert all("theta_0" not in part.coords for part in numbered(even))


@pytest.mark.slow
def test_theta_of_several_sizes_is_stored_along_observation_time(tmp_path):
    sets = ['observe.quantities={theta={kind="theta"}, held={kind="theta", leaves=["inner"]}}']
    sets += ['frozen=["inner"]']
    study = read(tmp_path, "gated.py:controls", "moons_for_controls", sets=sets)
    results = sweep.run_study(study, tmp_path / "results", progress=False)
    assert results["theta"].dims == ("size", "seed", "observation_time", "theta_0")
    held = results["held"].transpose("observation_time", ...).values
    np.testing.assert_array_equal(held, np.broadcast_to(held[0], held.shape))
    assert np.isfinite(results["theta"].sel(size=4)).all()
    assert np.isnan(results["theta"].sel(size=2)).sum() == 2 * 8 * 6
