"""Values of a study as flags: typed as the study's own records are, own kinds included."""

import dataclasses

import own_code
import pytest
from study_text import TEXT

from flowlift import studies
from flowlift.cli.flags import with_flags


@pytest.fixture
def own(tmp_path):
    return studies.read_study(own_code.write(tmp_path))


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text(TEXT)
    return path


def test_no_flags_change_nothing(own, plain):
    for study in (own, studies.read_study(plain)):
        assert with_flags(study, [], "flowlift run") == study


FLAGS = [
    (["--seeds", "5"], ["seeds=5"]),
    (["--flow.rtol", "1e-4", "--flow.solver", "bdf"], ["flow.rtol=1e-4", "flow.solver='bdf'"]),
    (["--flow.loss-below", "None"], []),
    (["--lift.sizes", "8", "16"], ["lift.sizes=[8, 16]"]),
    (["--lift.edges.mean", "3"], ["lift.edges.mean=3"]),
    (["--module.depth", "1", "--precision", "float32"], ["module.depth=1", "precision='float32'"]),
]


@pytest.mark.parametrize(("flags", "assignments"), FLAGS, ids=lambda x: " ".join(x))
def test_a_flag_is_an_assignment(plain, flags, assignments):
    study = studies.read_study(plain, assignments)
    if "None" in flags:
        study = dataclasses.replace(study, flow=dataclasses.replace(study.flow, loss_below=None))
    assert with_flags(studies.read_study(plain), flags, "flowlift run") == study


def test_losses_and_dynamics_which_are_modules_of_equinox_take_flags(plain):
    """Their class is the record of a study, but no plain record can be derived from it."""
    given = ["loss={kind='squared'}", "flow.dynamics={kind='heavy-ball', friction=1.0}"]
    study = studies.read_study(plain, given)
    assert with_flags(study, [], "flowlift run") == study
    changed = with_flags(study, ["--flow.dynamics.friction", "2.5"], "flowlift run")
    assert changed == studies.read_study(plain, [*given, "flow.dynamics.friction=2.5"])
    assert type(changed.flow.dynamics) is type(study.flow.dynamics)


def test_arguments_of_kinds_of_ones_own_are_flags(own, tmp_path):
    flags = ["--module.slope", "0.5", "--task.noise", "0", "--task.samples", "6"]
    given = with_flags(own, flags, "flowlift run")
    assert (given.module.slope, given.task.noise, given.task.samples) == (0.5, 0.0, 6)
    assert given.sources == own.sources
    assigned = ["module.slope=0.5", "task.noise=0.0", "task.samples=6"]
    assert given == studies.read_study(tmp_path / "study.toml", assigned)


@pytest.mark.parametrize(
    "flags", [["--task.samples", "many"], ["--task.nose", "1"], ["--sed", "3"]]
)
def test_a_wrong_flag_ends_with_status_2_and_names_it(own, flags, capsys):
    with pytest.raises(SystemExit) as stop:
        with_flags(own, flags, "flowlift run")
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert flags[0] in printed.out + printed.err


def test_help_says_what_a_study_takes(own, capsys):
    """Fields with their documentation and present values; a file's own arguments, too."""
    with pytest.raises(SystemExit) as stop:
        with_flags(own, ["--help"], "flowlift run study.toml")
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "flowlift run study.toml",
        "--flow.rtol FLOAT Relative tolerance of theta per step.",
        "--module.slope FLOAT",
        "--task.noise FLOAT",
        "(default: 0.1)",
    ):
        assert text in said, text
    for hidden in ("--sources", "--vary", "--quick", "--observe.quantities", "--flow.rules"):
        assert hidden not in said
