"""Every command of README is run as written, in its order, within two minutes of two cores."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_snippets import ROOT, snippets

README = ROOT / "README.md"
# Two minutes of two cores: what a command may take of the processor, compiling included.
CPU_SECONDS = 240


def commands(text: str) -> list[str]:
    """Indented lines that call the program, without their comments."""
    found = re.findall(r"^ {4}(flowlift .+)$", text, re.MULTILINE)
    return [re.split(r" {2,}#", line)[0].rstrip() for line in found]


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # XLA as users have it, and nothing compiled before.
    left = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "EQX_"))}
    settings = {"PATH": beside, "PYTHONPATH": str(ROOT), "FLOWLIFT_CACHE": str(folder / "kept")}
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    words = command.replace("flowlift ", f"{sys.executable} -m flowlift ", 1)
    return subprocess.run(
        words,
        shell=True,
        cwd=folder,
        env=left | settings,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


def test_commands_are_found():
    text = (
        "a\n\n    flowlift run x.toml --workers 2\n    flowlift plot y   # drawn\n    make demo\n"
    )
    assert commands(text) == ["flowlift run x.toml --workers 2", "flowlift plot y"]
    assert len(commands(README.read_text())) >= 9


@pytest.mark.slow
def test_every_command_of_readme_ends_in_time(tmp_path):
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    (code,) = [text for text in snippets(README, "python") if "def gated_product" in text]
    (study,) = snippets(README, "toml")
    (tmp_path / "gated.py").write_text(code)
    (tmp_path / "study.toml").write_text(study)
    for command in commands(README.read_text()):
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout
    assert (tmp_path / "results" / "gated" / "report.html").is_file()
    assert (tmp_path / "results" / "short" / "report.html").is_file()
