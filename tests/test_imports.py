"""What is imported before anything is asked: counted in fresh processes, never timed."""

import json
import subprocess
import sys

import pytest

_MAIN = "from flowlift.cli import main\ntry: main({!r})\nexcept SystemExit: pass\n"
# Each of these costs a tenth of a second or more.
_HEAVY = ("jax", "equinox", "diffrax", "numpy", "scipy", "pandas", "xarray", "matplotlib", "h5py")
_DRAWING = {"matplotlib", "IPython", "sklearn"}
_STATISTICS = {"scipy.stats", "scipy.optimize", "scipy.signal"}


def imported(code: str, folder) -> list[str]:
    """The names of all modules that a fresh process holds after some code."""
    report = f"{code}\nimport json, sys; print('LOADED' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, cwd=folder, check=True
    )
    return json.loads(done.stdout.rpartition("LOADED")[2])


@pytest.mark.parametrize(
    ("code", "most"),
    [
        pytest.param("import flowlift", 40, id="import"),
        pytest.param("import flowlift.store, flowlift.sweep.worker", 150, id="store"),
        pytest.param(_MAIN.format(["--help"]), 300, id="help"),
        pytest.param(_MAIN.format(["run", "--help"]), 300, id="help of a command"),
        pytest.param(_MAIN.format(["status", "."]), 320, id="status of no study"),
    ],
)
def test_what_computes_nothing_imports_nothing_heavy(code, most, tmp_path):
    nothing, found = imported("", tmp_path), imported(code, tmp_path)
    assert any(name.startswith("flowlift.") or name == "flowlift" for name in found)
    assert set(found) & set(_HEAVY) == set()
    assert len(found) - len(nothing) <= most


@pytest.mark.parametrize(
    ("code", "without"),
    [
        pytest.param(
            "import flowlift; flowlift.solve, flowlift.sample, flowlift.diagnostics",
            {*_DRAWING, *_STATISTICS, "scipy", "pandas", "xarray", "h5py"},
            id="library",
        ),
        pytest.param(
            "from flowlift.sweep.worker import prepare; prepare()",
            {*_DRAWING, "scipy"},
            id="worker",
        ),
        pytest.param(
            "import flowlift; flowlift.study; import flowlift.sweep.run, flowlift.answers",
            {*_DRAWING, *_STATISTICS},
            id="study",
        ),
    ],
)
def test_packages_are_imported_where_they_are_used(code, without, tmp_path):
    found = set(imported(code, tmp_path))
    assert "jax" in found
    assert found & without == set()
