"""What is observed is recorded exactly, under a name of its own, with its cost; or refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.diagnostics import observer
from flowlift.flow import AbstractObserver, LossBelow, dataset, solve
from flowlift.flow.observers import watch
from flowlift.reserved import RESERVED

START = jnp.array([3.0, -4.0])


def square(w):
    return 0.5 * jnp.sum(w**2)


class Priced(AbstractObserver):
    """theta_0, said to cost what it is asked to."""

    price: int = eqx.field(static=True)

    def measure(self, model):
        return model[0], self.price


class Named(eqx.Module):
    low: jax.Array
    high: jax.Array


OBSERVERS = {
    "pair": lambda w: (w[0], w),
    "ends": lambda w: {"low": w.min(), "high": [w.max(), None]},
    "named": lambda w: Named(w[0] > 0, jnp.round(w[1]).astype(int)),
    "wave": lambda w: jnp.exp(1j * w[0]),
    "count": lambda w: 3,
    "half": lambda w: w.astype(jnp.float16),
    "priced": Priced(7),
    "my steps": lambda w: w[0],
}
TIMES = np.array([0.25, 0.5, 1.0, 2.0, 4.0])


@pytest.fixture(scope="module")
def solution():
    return solve(
        START, square, 4.0, solver="tsit5", save=TIMES.tolist(), observers=OBSERVERS, rtol=1e-8
    )


def test_values_are_recorded_as_they_are(solution):
    """theta(t) = e^{-t} theta(0), so that every observer is known in closed form."""
    times = np.append(0.0, TIMES)
    w = np.exp(-times)[:, None] * np.asarray(START)
    seen = solution.observations
    assert list(seen) == list(OBSERVERS)
    one, both = seen["pair"]
    np.testing.assert_allclose(one, w[:, 0], rtol=1e-6)
    np.testing.assert_allclose(both, w, rtol=1e-6)
    np.testing.assert_allclose(seen["ends"]["low"], w[:, 1], rtol=1e-6)
    assert seen["ends"]["high"][1] is None
    assert seen["named"].low.dtype == bool
    assert seen["named"].low.all()
    assert seen["named"].high.dtype == int
    np.testing.assert_array_equal(seen["named"].high, np.round(w[:, 1]))
    np.testing.assert_allclose(seen["wave"], np.exp(1j * w[:, 0]), rtol=1e-6)
    assert seen["count"].tolist() == [3] * 6
    assert seen["half"].dtype == np.float16


def test_a_dataset_names_every_leaf(solution):
    data = dataset(solution)
    assert data["pair.1"].dims == ("time", "pair.1_0")
    assert data["ends.high.0"].dims == ("time",)
    assert data["named.high"].dtype == int
    assert data["wave"].dtype == complex
    np.testing.assert_array_equal(data["pair.0"], data["my steps"])
    own = {name for name in map(str, data.variables) if name.split(".")[0] not in OBSERVERS}
    assert own <= RESERVED


def test_observers_pay_what_they_say(solution):
    """One gradient and seven a record; others are free."""
    assert solution.stats.observation_gradients == 6 * (1 + 7)
    plain = solve(START, square, 4.0, solver="tsit5", save=TIMES.tolist(), rtol=1e-8)
    assert plain.stats.observation_gradients == 6
    assert plain.stats.gradients == solution.stats.gradients


def test_a_built_in_observer_pays_its_products():
    sharpness = observer("sharpness", square)
    cost = int(sharpness.measure(START)[1])
    done = solve(START, square, 1.0, solver="tsit5", save=[1.0], observers={"top": sharpness})
    assert done.stats.observation_gradients == 2 * (1 + cost)
    assert cost > 3


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_of_results_are_refused(name):
    with pytest.raises(ValueError, match=f"`observers` must not have a name .* but has '{name}'"):
        watch({name: square}, START)


@pytest.mark.parametrize("name", ["", "a/b", "a.b", " a", 3, None])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="`observers` must have names without dots and slashes"):
        watch({name: square}, START)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda w: None, "but the value of 'o' is NoneType"),
        (lambda w: {}, "but the value of 'o' is dict"),
        (lambda w: (w, "text"), "but the value of 'o' holds a str"),
        (lambda w: jax.random.key(0), "but the value of 'o' is"),
        (lambda w: 1 / 0, "but 'o' raised ZeroDivisionError: division by zero"),
        (lambda w: float(w[0]), "but 'o' raised ConcretizationTypeError"),
        (lambda: 1.0, "but 'o' raised TypeError"),
        (3.0, "must hold functions of the model, but 'o' is float"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_any_computation(function, words):
    with pytest.raises(ValueError, match="Argument `observers` must hold functions") as raised:
        solve(START, square, 1.0, observers={"o": function})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_that_would_meet_in_a_dataset_are_refused():
    with pytest.raises(ValueError, match="'a' and 'a_0' both need 'a_0'"):
        watch({"a": lambda w: w, "a_0": square}, START)
    with pytest.raises(ValueError, match="must be a mapping from names to functions"):
        watch([square], START)  # pyright: ignore[reportArgumentType]


def test_an_observer_has_no_part_in_stopping():
    """Named like a record it would have stopped the flow at once."""
    with pytest.raises(ValueError, match="has 'loss'"):
        solve(START, square, 1.0, stops=[LossBelow(1.0)], observers={"loss": lambda w: 0.0})
