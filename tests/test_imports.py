"""What is imported before anything is asked: counted in fresh processes, never timed."""

import json
import pkgutil
import subprocess
import sys

import pytest

import flowlift

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


# Each may hold what those before it hold, so that one process answers for all.
_USES = {
    "library": (
        "import flowlift; flowlift.solve, flowlift.sample, flowlift.diagnostics",
        {*_DRAWING, *_STATISTICS, "scipy", "pandas", "xarray", "h5py"},
    ),
    "worker": ("from flowlift.sweep.worker import prepare; prepare()", {*_DRAWING, "scipy"}),
    "study": (
        "import flowlift; flowlift.study; import flowlift.sweep.run, flowlift.answers",
        {*_DRAWING, *_STATISTICS},
    ),
}
_LOADED = "import json, sys; print('LOADED' + json.dumps(sorted(sys.modules)))"
_X64 = "import jax; print('LOADED' + json.dumps(jax.config.jax_enable_x64))"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The modules of a process after each use; whether x64 is on in it once all is imported."""
    modules = [info.name for info in pkgutil.walk_packages(flowlift.__path__, "flowlift.")]
    lines = ["import os; os.environ.pop('JAX_ENABLE_X64', None)"]
    lines += [line for code, _ in _USES.values() for line in (code, _LOADED)]
    lines += [f"import {', '.join(modules)}", _X64]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("used"),
        check=True,
    )
    found = [json.loads(part) for part in done.stdout.split("LOADED")[1:]]
    return dict(zip([*_USES, "x64"], found, strict=True))


@pytest.mark.parametrize("use", _USES)
def test_packages_are_imported_where_they_are_used(use, used):
    found = set(used[use])
    assert "jax" in found
    assert found & _USES[use][1] == set()


def test_no_module_flips_x64(used):
    assert used["x64"] is False
