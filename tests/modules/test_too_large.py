"""What would not fit into the machine is refused with its estimate, before anything is built."""

import re

import pytest

from flowlift import LogTimes, lift, memory, modules, tasks

HUGE = {
    "samples of a signal": lambda: tasks.periodic({1: 1.0}, samples=10**12),
    "samples of a teacher": lambda: tasks.student_teacher(modules.mlp(2), samples=10**12, seed=0),
    "teachers": lambda: tasks.gaussian_committee(10**7),
    "copies": lambda: lift.sample(
        modules.mlp(2), copies=10**9, edges=lift.FixedInDegree(8), seed=0
    ),
    "dense copies": lambda: lift.check_plan(modules.mlp(2), copies=10**6, edges=lift.Complete()),
    "inputs": lambda: lift.sample(modules.mlp(10**12), copies=4, edges=lift.Complete(), seed=0),
    "depth": lambda: modules.mlp(2, depth=10**6),
    "skips": lambda: modules.mlp_with_skips(2, depth=10**5),
    "steps": lambda: modules.unrolled_rnn(10**7, 2),
    "blocks": lambda: modules.transformer(4, 4, blocks=10**6),
    "residual blocks": lambda: modules.resnet((8, 8), blocks=10**6),
    "convolutions": lambda: modules.cnn1d(8, depth=10**6),
    # Beyond every float.
    "samples that overflow": lambda: tasks.periodic({1: 1.0}, samples=10**400),
}


@pytest.fixture(autouse=True)
def laptop(monkeypatch):
    """The estimates are the same everywhere; the machine is not."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 16 * 10**9)


@pytest.mark.parametrize("build", HUGE.values(), ids=HUGE)
def test_what_exceeds_the_memory_is_refused_with_the_estimate(build):
    with pytest.raises(ValueError, match=r"^Argument `\w+` must fit into this machine's") as error:
        build()
    sentence = str(error.value)
    assert "memory of 16 GB" in sentence
    needed = re.search(r"takes at least ([\de+.]+) GB|takes at least more than", sentence)
    assert needed is not None
    assert needed[1] is None or float(needed[1]) > 16
    assert sentence.endswith("; lower it.")
    assert "\n" not in sentence


@pytest.mark.parametrize("count", [10**10, 10**400])
def test_save_times_are_bounded(count):
    with pytest.raises(ValueError, match=r"`per_decade` of LogTimes must be an integer from 1 to"):
        LogTimes(per_decade=count)


def test_copies_that_no_index_could_name_are_refused():
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1"):
        lift.sample(modules.mlp(2), copies=10**200, edges=lift.BernoulliInDegree(2), seed=0)


def test_what_fits_is_built():
    """A lift of 10^6 edges, 10^6 save times, 10^3 layers: large, and nowhere near a laptop's."""
    module = modules.mlp(2, depth=1000)
    assert len(module.hidden) == 1000
    lift.check_plan(modules.mlp(2), copies=10**5, edges=lift.FixedInDegree(10))
    assert len(LogTimes(per_decade=10**5).times(1.0)) == 6 * 10**5 + 1


def test_the_machine_has_some_memory():
    assert 10**8 < memory.machine_memory() < 10**15
