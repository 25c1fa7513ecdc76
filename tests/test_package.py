"""Wheel and sdist as a user gets them: built, installed in a clean environment, typed, cited."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The package is text: what is larger was packed by mistake.
MOST_BYTES = 1_500_000
# 0.825 when this was written: equinox's modules and jaxtyping's shapes are what the checker cannot
# follow.
LEAST_TYPED = 0.8
# A script of a user: what the checker reveals shows that annotations arrive.
SCRIPT = """\
import flowlift
from flowlift import modules, plot, tasks

module = modules.mlp(inputs=2, depth=1)
lift = flowlift.sample(module, copies=8, edges=flowlift.FixedInDegree(2), seed=0)
solution = flowlift.solve(lift, tasks.periodic({1: 1.0}, samples=8), horizon=1.0)
reveal_type(lift)
reveal_type(solution)
time: float = solution.time
flowlift.solve(lift, tasks.periodic({1: 1.0}, samples=8), horizon="soon")
"""


def names_and_floors(requirements: list[str]) -> dict[str, str]:
    """The least version of each package, by its name: `a>=1.2` and `a[b]>=1.2` alike."""
    found = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in requirements]
    assert all(found), requirements
    return {match[1].lower(): match[2] for match in found if match}


def test_floors_are_the_least_versions_that_are_admitted():
    lines = (ROOT / "tests" / "floors.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    del pinned["jaxlib"], pinned["pyparsing"]
    stated = names_and_floors(SETTINGS["dependencies"])
    assert set(pinned) == set(stated)
    short = lambda version: re.sub(r"(\.0)+$", "", version)
    assert {n: short(v) for n, v in pinned.items()} == {n: short(v) for n, v in stated.items()}


def test_interpreters_are_said_alike():
    said = [c.rpartition(" ")[2] for c in SETTINGS["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert said[0] == SETTINGS["requires-python"].removeprefix(">=")
    assert json.dumps(said) in (ROOT / "noxfile.py").read_text()


def test_versions_are_said_alike():
    version = SETTINGS["version"]
    assert f'\n__version__ = "{version}"\n' in (ROOT / "flowlift" / "__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"({version})\n" in (ROOT / "CHANGELOG.md").read_text()


# All below share one environment, which takes a minute to install: slow.
@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel made of an sdist, as package indexes do."""
    pytest.importorskip("build", reason="the extra `dev`")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "build", "-o", folder, ROOT], check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of an environment that has the wheel and what it asks for, nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([folder / "bin" / "pip", "install", *quiet, built[0]], check=True)
    return folder / "bin" / "python"


def run(words, folder, **settings):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JAX_", "XLA_"))}
    return subprocess.run(
        words, cwd=folder, env=kept | settings, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.check_output(["git", "ls-files", "flowlift"], cwd=ROOT, text=True)
    assert names == set(listed.splitlines())
    assert {"flowlift/py.typed", "flowlift/plot/report.html.jinja"} <= names
    assert wheel.stat().st_size < MOST_BYTES
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "tests/floors.txt"} <= packed
    assert not {name for name in packed if name.startswith(("results", ".venv", "docs/_build"))}


@pytest.mark.slow
def test_the_installed_program_answers_and_flows(installed, tmp_path):
    program = installed.parent / "flowlift"
    assert "check-tolerance" in run([program, "--help"], tmp_path)
    lean = "import flowlift, sys; print('jax' in sys.modules)"
    assert run([installed, "-c", lean], tmp_path) == "False\n"
    # A proxy that nobody answers: what asked the network would fail.
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    (tmp_path / "use.py").write_text(SCRIPT.partition("reveal_type")[0] + "print(solution.time)\n")
    settings = {"JAX_ENABLE_X64": "1", "FLOWLIFT_CACHE": str(tmp_path / "kept"), **nowhere}
    assert run([installed, "use.py"], tmp_path, **settings) == "1.0\n"


@pytest.mark.slow
def test_public_annotations_are_seen_from_outside(installed, tmp_path):
    pytest.importorskip("pyright", reason="the extra `dev`")
    (tmp_path / "use.py").write_text(SCRIPT)
    check = [sys.executable, "-m", "pyright", "--pythonpath", installed, "--outputjson"]
    done = subprocess.run([*check, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    found = [(d["severity"], d["message"]) for d in json.loads(done.stdout)["generalDiagnostics"]]
    revealed = [text for severity, text in found if severity == "information"]
    assert revealed == ['Type of "lift" is "Lift"', 'Type of "solution" is "FlowSolution"']
    (mistake,) = [text for severity, text in found if severity == "error"]
    assert "horizon" in mistake
    verified = [*check, "--verifytypes", "flowlift", "--ignoreexternal"]
    done = subprocess.run(verified, cwd=tmp_path, capture_output=True, text=True)
    complete = json.loads(done.stdout)["typeCompleteness"]
    assert complete["packageName"] == "flowlift"
    print("share of public symbols with known types:", complete["completenessScore"])
    assert complete["completenessScore"] > LEAST_TYPED
