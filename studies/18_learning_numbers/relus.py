"""A sum of ReLUs, one of each of many Gaussian inputs: the loss of sparse lifts in closed form."""

import math

import jax
import jax.numpy as jnp

from flowlift import modules, tasks
from flowlift.lift import Lift, from_edges


def relus(inputs: int) -> modules.PerceptronModule:
    """x -> h1 -> y without biases, each coordinate of x a vertex of its own."""
    return modules.two_layer(inputs, activation="relu", bias=False, vector_input=False)


@jax.custom_jvp
def arc(c):
    """sin(t) + (pi - t) cos(t), t = arccos(c)."""
    return jnp.sqrt(jnp.maximum(1 - c**2, 0)) + rest(c) * c


@arc.defjvp
def _arc_jvp(primals, tangents):
    # The singular terms of both summands cancel.
    return arc(*primals), rest(*primals) * tangents[0]


@jax.custom_jvp
def rest(c):
    """pi - arccos(c)."""
    return math.pi - jnp.arccos(jnp.clip(c, -1, 1))


@rest.defjvp
def _rest_jvp(primals, tangents):
    # Where two units are parallel, c changes in second order and the product is bounded; nearer
    # than 1e-7 its rounding is not.
    sine = jnp.sqrt(jnp.maximum(1 - primals[0] ** 2, 1e-14))
    return rest(*primals), tangents[0] / sine


class SumOfRelus(tasks.AbstractObjective):
    """L = E (sum_i a_i relu(<w_i, x>) - sum_j relu(x_j))^2 for x ~ N(0, I_d), without 1/2.

    By E relu(<u, x>) relu(<w, x>) = |u| |w| arc(cos of their angle) / (2 pi) (Cho & Saul, 2009).
    """

    def __call__(self, model: Lift):
        """L(model)."""
        first, read_outs = model.fibres["x->h1"], model.weights["h1->y"]
        shape = first.n_targets, first.n_sources
        if first.is_complete:
            rows = model.weights["x->h1"].reshape(shape)
        else:
            # Padding has weight 0.
            places = first.targets, first.sources
            rows = jnp.zeros(shape).at[places].add(model.weights["x->h1"])
        squares = jnp.sum(rows**2, axis=1)
        # A copy that reads nothing is 0, and so are its derivatives.
        lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1))
        strength = jnp.where(squares > 0, read_outs * lengths, 0)
        directions = rows / lengths[:, None]
        # Each unit with itself apart: its angle is 0 whatever its weights are.
        others = jnp.where(jnp.eye(shape[0], dtype=bool), 0, directions @ directions.T)
        own = strength @ arc(others) @ strength + (math.pi - 1) * strength @ strength
        cross = strength @ arc(directions).sum(axis=1)
        # arc(1) = pi for each teacher with itself, arc(0) = 1 for two of them.
        teacher = shape[1] * (math.pi + shape[1] - 1)
        return (own - 2 * cross + teacher) / (2 * math.pi)

    def check(self, model: Lift) -> None:
        """Refuse what is no lift of `relus`."""
        tasks.Population(self.__call__).check(model)


def sum_of_relus(inputs: int) -> tasks.Task:
    """Learn sum_j relu(x_j); the teacher, a lift of `relus(inputs)`, is among the facts."""
    each, zeros = jnp.arange(inputs), jnp.zeros(inputs, int)
    ones = jnp.ones(inputs)
    teacher = from_edges(
        relus(inputs),
        copies={"h1": inputs},
        edges={"x->h1": (each, each, ones), "h1->y": (each, zeros, ones)},
    )
    return tasks.Task("sum of ReLUs", SumOfRelus(), {}, {"least loss": 0.0, "teacher": teacher})
