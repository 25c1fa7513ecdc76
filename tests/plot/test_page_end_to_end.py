"""A page of real runs: what it says of single flows is there, and the command that it gives works.

All of it rests on a study that is run, a page and its figures: seconds each.
"""

import html
import re
import shlex
from xml.etree import ElementTree

import numpy as np
import pytest
from overlaps import smallest

from flowlift import store
from flowlift.cli import main
from flowlift.plot import save as saving
from flowlift.plot.style import WIDTHS

STUDY = """
name = "varied"
seeds = 2
vary = { "task.samples" = [8, 12] }

[module]
kind = "mlp"
inputs = 2
depth = 1

[alternatives.law.sparse]
"lift.edges" = { kind = "fixed_in_degree", degree = 2 }

[alternatives.law.dense]
"lift.edges" = { kind = "complete" }

[lift]
sizes = [2, 3]
edges = { kind = "complete" }

[task]
kind = "periodic"
harmonics = { 1 = 1.0 }

[flow]
horizon = 2.0
solver = "tsit5"

[question]
losses = [0.4]
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    (root / "study.toml").write_text(STUDY)
    main(["run", str(root / "study.toml"), "--output", str(root / "results")])
    main(["report", str(root / "results"), "--figures", "svg"])
    return root


@pytest.fixture
def page(folder):
    return (folder / "results" / "report.html").read_text()


def test_titles_name_runs_that_exist(folder, page):
    results = store.load(folder / "results")
    titles = [html.unescape(t) for t in re.findall("<g[^>]*><title>([^<]*)</title>", page)]
    told = [re.match(r"n = (\d+), seed (\d+), run (\w+): loss (\S+) at t = 2", t) for t in titles]
    found = {m.group(3): (int(m.group(1)), int(m.group(2)), m.group(4)) for m in told if m}
    runs = results["run"].values.astype(str)
    assert len(found) == runs.size == 16
    for place, run in np.ndenumerate(runs):
        at = dict(zip(results["run"].dims, place, strict=True))
        one = results.isel(at)
        size, seed, loss = found[run[:12]]
        assert (size, seed) == (int(one["size"]), int(one["seed"]))
        assert float(loss) == pytest.approx(float(one.final_loss), rel=1e-3)


def test_every_command_of_the_page_names_its_run_and_one_is_run(folder, page, monkeypatch, capsys):
    """In another folder, from the study as the page shows it."""
    results = store.load(folder / "results")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    monkeypatch.chdir(elsewhere)
    shown = re.findall(r'<pre class="long"><code>(.*?)</code></pre>', page, re.DOTALL)[0]
    (elsewhere / "study.toml").write_text(html.unescape(shown))
    commands = [
        html.unescape(c) for c in re.findall('<p class="one".*?>(flowlift .*?)</code>', page)
    ]
    assert len(set(commands)) == 16
    command = next(c for c in commands if "sparse" in c and "[12]" in c and "--first-seed 1" in c)
    main(shlex.split(command)[1:])
    (repeated,) = (path for path in elsewhere.iterdir() if path.is_dir())
    one = store.load(repeated)
    assert one["run"].size == 1
    size = int(one["size"].item())
    before = results.sel(samples=12, law="sparse", size=size, seed=1)
    assert one["run"].item() == before["run"].item()
    np.testing.assert_array_equal(one.loss.values.ravel(), before.loss.values)
    assert "1 horizon" in capsys.readouterr().out


def test_every_figure_is_written_as_svg_with_text_and_as_pdf(folder, capsys):
    drawn = {path.stem for path in (folder / "results" / "figures").glob("*.svg")}
    assert {"loss_vs_time", "loss_vs_size", "success_vs_size", "paired_law"} <= drawn
    for name in drawn:
        root = ElementTree.parse(folder / "results" / "figures" / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    main(
        ["report", str(folder / "results"), "--figures", "pdf", "--output", str(folder / "p.html")]
    )
    assert (folder / "p.html").stat().st_size > 10_000
    files = {path.stem: path for path in (folder / "figures").glob("*.pdf")}
    assert set(files) == drawn
    assert all(path.read_bytes().startswith(b"%PDF-") for path in files.values())


@pytest.mark.parametrize("width", list(WIDTHS))
def test_plots_as_wide_as_a_column_are_legible(folder, width, tmp_path, monkeypatch):
    seen, save = {}, saving._save

    def look(figure, path, dpi):
        seen[path.stem] = figure.get_figwidth(), smallest(figure)
        save(figure, path, dpi)

    monkeypatch.setattr(saving, "_save", look)
    output = ["--output", str(tmp_path), "--suffix", "pdf"]
    main(["plot", str(folder / "results"), "--width", width, *output])
    assert set(seen) == {path.stem for path in tmp_path.glob("*.pdf")}
    # Six points are the least that journals print.
    assert all(found == WIDTHS[width].width and least >= 6.0 for found, least in seen.values())
    assert all(f"{name}.pdf: " in (tmp_path / "captions.txt").read_text() for name in seen)
