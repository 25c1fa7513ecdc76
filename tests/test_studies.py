"""The studies run by one command, quickly when asked to, and say whether their claim held."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas
import pytest

STUDIES = Path(__file__).parents[1] / "studies"
# Study: its figure, and what its quick grid must say.
QUICK = {
    "03_tangent_radius": ("tangent_radius.png", "predicted -0.5: the claim holds"),
    "04_coverage": ("coverage.png", "the claim holds"),
    "05_certificate": ("certificate.png", "Both inequalities hold"),
    "06_lazy_or_not": ("lazy_or_not.png", "falling with n: holds"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_quick_grids_run_by_one_command(name, tmp_path):
    figure, verdict = QUICK[name]
    places = ["--figures", str(tmp_path / "figures")]
    if name != "04_coverage":
        places += ["--results", str(tmp_path / "results")]
    command = [sys.executable, str(STUDIES / name / "run.py"), "--quick", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert verdict in done.stdout
    assert plt.imread(tmp_path / "figures" / figure).shape[1] > 1000
    assert len(pandas.read_csv(tmp_path / "figures" / "summary.csv")) > 5


@pytest.mark.parametrize("name", QUICK)
def test_each_study_keeps_its_numbers_its_figure_and_its_verdict(name):
    folder = STUDIES / name
    readme = (folder / "README.md").read_text()
    assert f"({QUICK[name][0]})" in readme
    assert (folder / QUICK[name][0]).is_file()
    assert len(pandas.read_csv(folder / "summary.csv")) > 5
    for part in ("**Claim.**", "**What one should see.**", "**What one sees.**", "**Verdict.**"):
        assert part in readme, part
    assert f"python studies/{name}/run.py" in readme
