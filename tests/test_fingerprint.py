"""Equal values have equal fingerprints in every process; every change changes them."""

import copy
import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
import threading
import types

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift.fingerprint import Unidentified, fingerprint
from flowlift.origin import origin
from flowlift.solvers import BDF

LOCK = threading.Lock()
# A module of a user's, in which everything that can change is a word to fill in.
SOURCE = """
import dataclasses, functools, enum
import jax, jax.numpy as jnp, numpy as np, equinox as eqx

SCALE = {scale}
TABLE = {{"b": {table}, "a": 1, "c": {{3, 1, 2, "x"}}}}

def inner(x):
    return x {operator} SCALE

def outer(x, power={default}, *, shift={keyword}):
    return inner(x) ** power + shift + sum(TABLE[k] for k in "ab")

def recursive(x, n):
    return recursive(x, n - 1) if n else outer(x)

class Base:
    slope = {slope}
    def act(self, x):
        return jnp.{act}(x) * self.slope

@dataclasses.dataclass(frozen=True)
class Loss(Base):
    width: float = {width}
    def __call__(self, x):
        return (lambda y: recursive(self.act(y), 2))(x) / self.width

class Net(eqx.Module):
    weight: jax.Array
    act: object = eqx.field(static=True)

class Kind(enum.Enum):
    A = {kind}

def made(factor):
    return lambda x: factor * x

VALUE = dict(
    loss=Loss(),
    net=Net(jnp.asarray([1.0, {entry}]), jax.jit(jax.vmap(made({closure})))),
    key=jax.random.key({key}),
    kind=Kind.A,
    part=functools.partial(outer, power={partial}),
    method=Loss(2.0).act,
    data=np.arange(6, dtype="{dtype}").reshape({shape}),
    names={{"q", "r", "{name}"}},
)
"""
WORDS = {
    "scale": ("1.0", "-0.0", "0.0"),
    "table": ("1", "2"),
    "operator": ("+", "*"),
    "default": ("2", "3"),
    "keyword": ("0.5", "0.25"),
    "slope": ("1", "1.0"),
    "act": ("tanh", "sin"),
    "width": ("1.0", "float('nan')"),
    "kind": ("1", "2"),
    "entry": ("2.0", "2.0000000000000004"),
    "closure": ("1.5", "2.5"),
    "key": ("0", "0, impl='rbg'", "1"),
    "partial": ("1", "True"),
    "dtype": ("int64", "uint64", "float64"),
    "shape": ("2, 3", "3, 2"),
    "name": ("s", "t"),
}
RUN = """
import json, sys, types, jax
jax.config.update("jax_enable_x64", True)
from flowlift.fingerprint import fingerprint
found = []
for source in json.load(sys.stdin):
    module = sys.modules["theirs"] = types.ModuleType("theirs")
    exec(compile(source, "theirs.py", "exec"), vars(module))
    found.append([fingerprint(module.VALUE), fingerprint(module.VALUE)])
print(json.dumps(found))
"""


def in_another_process(sources: list[str], seed: int) -> list[str]:
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    both = json.loads(done.stdout)
    assert all(first == second for first, second in both)
    return [first for first, _ in both]


def drawn(rng) -> dict[str, str]:
    return {name: str(rng.choice(choices)) for name, choices in WORDS.items()}


@pytest.mark.slow  # starts processes
def test_equal_across_processes_and_different_after_every_change():
    """From random modules of a user's, every single word is changed in turn."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(3):
        words = drawn(rng)
        changed = [
            words | {name: other}
            for name, choices in WORDS.items()
            for other in choices
            if other != words[name]
        ]
        texts += [SOURCE.format(**each) for each in (words, *changed)]
    commented = "# A remark.\n\n" + texts[0].replace(
        "    return inner", "    # Why.\n    return inner"
    )
    one = in_another_process([*texts, commented], 1)
    other = in_another_process([*texts, commented][::-1], 2)[::-1]
    assert one == other
    assert len(set(one)) == len(set(texts))
    # What is not compiled does not count.
    assert one[-1] == one[0]


def test_values_by_their_bits():
    same = (
        ([1, 2], [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, "x"}, {"x", 2, 1}),
        (np.arange(3.0), jnp.arange(3.0)),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (float("nan"), np.nan),
    )
    for one, other in same:
        assert fingerprint(one) == fingerprint(other)
    different = [0, False, 0.0, -0.0, 0j, "0", b"0", None, (), [], {}, set(), (0,), [0], [[0]]]
    different += [np.zeros(1, dtype) for dtype in ("f4", "f8", "i4", "i8", "?", "c8")]
    different += [np.zeros((1, 1)), jnp.asarray(0.0), jnp.float32, np.dtype("f4")]
    different += [jax.random.key(0), jax.random.key_data(jax.random.key(0)), ["a", "b"], ["ab"]]
    different += [diffrax.Tsit5(), diffrax.Dopri5(), diffrax.Kvaerno5(), BDF(), BDF(dense=True)]
    different += [jnp.tanh, jnp.sin, jax.nn.relu, jax.nn.gelu, np.tanh, len, str.join, jnp.add]
    digests = [fingerprint(value) for value in different]
    assert len(set(digests)) == len(different)


def test_sharing_and_cycles_end():
    nested = [0]
    for _ in range(200):
        nested = [nested, nested]
    assert fingerprint(nested) == fingerprint(copy.deepcopy(nested))
    ring, other = [1], [1]
    ring.append(ring)
    other.append(other)
    assert fingerprint(ring) == fingerprint(other)
    other[0] = 2
    assert fingerprint(ring) != fingerprint(other)


def test_a_cached_value_does_not_count():
    @dataclasses.dataclass
    class Wave:
        frequency: float

        @functools.cached_property
        def table(self):
            return np.sin(self.frequency * np.arange(4))

    wave = Wave(2.0)
    before = fingerprint(wave)
    assert wave.table is not None
    assert fingerprint(wave) == before != fingerprint(Wave(3.0))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [threading.Lock()]}, r"value\['a'\]\[0\] is, because it is a _thread.lock"),
        ((n for n in "ab"), "value is, because it is a builtins.generator"),
        (open(os.devnull), "value is, because it is a _io.TextIOWrapper"),  # noqa: SIM115
        (functools.partial(print, LOCK), r"value\[1\]\[0\] is"),
    ],
)
def test_what_cannot_be_known_is_named_unless_the_caller_says_what_it_is(value, where):
    with pytest.raises(Unidentified, match=f"Argument `identity` must say what {where}"):
        fingerprint(value)
    assert fingerprint(value, given="v1") == fingerprint(value, given="v1")
    assert fingerprint(value, given="v1") != fingerprint(value, given="v2")


def test_what_the_caller_says_leaves_the_rest_to_be_compared():
    one, other = [1, threading.Lock()], [2, threading.Lock()]
    assert fingerprint(one, given="v1") != fingerprint(other, given="v1")


def test_traced_arrays_are_refused():
    with pytest.raises(Unidentified, match="it is being traced"):
        jax.jit(lambda x: fingerprint(x) and x)(jnp.ones(2))


def test_origins():
    assert origin("json.decoder").name == "python"
    assert origin("json.decoder").version == ".".join(map(str, sys.version_info[:3]))
    assert origin("jax.numpy").version == jax.__version__
    # Under development, or installed: known in both cases.
    assert origin("flowlift.flow").known
    assert not origin(__name__).known
    assert len(origin(__name__).sha256) == 64


def test_a_wrapper_that_borrows_a_name_is_not_what_it_wraps():
    doubled = functools.wraps(jnp.sin)(lambda x: 2 * jnp.sin(x))
    tripled = functools.wraps(jnp.sin)(lambda x: 3 * jnp.sin(x))
    digests = {fingerprint(f) for f in (jnp.sin, doubled, tripled)}
    assert len(digests) == 3


def test_modules_of_ones_own_count_by_what_is_used_of_them(monkeypatch):
    theirs = types.ModuleType("helpers_of_theirs")
    monkeypatch.setitem(sys.modules, "helpers_of_theirs", theirs)
    theirs.gain = 2.0
    space = {"helpers": theirs, "__name__": "script_of_theirs"}
    exec("def f(x):\n    return helpers.gain * x", space)
    before = fingerprint(space["f"])
    theirs.gain = 3.0
    assert fingerprint(space["f"]) != before
    theirs.gain = 2.0
    assert fingerprint(space["f"]) == before


def test_equinox_modules_by_leaf_and_by_static_field():
    def network(seed=0, act=jax.nn.relu, width=3):
        return eqx.nn.MLP(2, 1, width, 2, activation=act, key=jax.random.key(seed))

    assert fingerprint(network()) == fingerprint(network())
    changed = [network(), network(1), network(act=jax.nn.gelu), network(width=4)]
    assert len({fingerprint(each) for each in changed}) == 4
    bits = eqx.tree_at(
        lambda net: net.layers[0].bias, network(), replace_fn=lambda b: jnp.nextafter(b, 9.0)
    )
    pairs = itertools.combinations([*changed, bits], 2)
    assert all(fingerprint(a) != fingerprint(b) for a, b in pairs)
