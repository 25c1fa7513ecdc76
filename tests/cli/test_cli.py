"""The command line, called as a user would."""

from pathlib import Path

import pytest
from study_text import TINY

from flowlift import store, studies
from flowlift.cli import main


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).replace("│", " ").split())


def test_run_then_plot(file, tmp_path, capsys):
    output = str(tmp_path / "results")
    main(["run", file, "--flow.horizon", "2", "--seeds", "2", "--output", output])
    printed = capsys.readouterr().out
    assert "lift size" in printed
    assert "2 horizon" in printed
    study = studies.read_study(tmp_path / "results" / "study.toml")
    assert (study.flow.horizon, study.seeds) == (2.0, 2)
    assert dict(store.load(output).sizes) | {"time": 0} == {"size": 1, "seed": 2, "time": 0}
    main(["status", output])
    printed = capsys.readouterr().out
    assert "study    tiny: 2 runs\ndone     2 (2 horizon)" in printed
    assert "missing  0" in printed
    main(["export", output, "--along"])
    exported = Path(capsys.readouterr().out.strip())
    assert exported == tmp_path / "results" / "export.csv"
    header = exported.read_text().splitlines()[0].split(",")
    assert header[:3] == ["size", "seed", "time"]
    assert "loss" in header
    main(["plot", output])
    for file in capsys.readouterr().out.split():
        assert file.endswith(".png")
    assert len(list((tmp_path / "results" / "figures").iterdir())) == 2
    main(["success", output, "--loss", "10"])
    printed = capsys.readouterr().out
    assert "probability" in printed
    assert "Learning number at delta = 0.1: not bounded by these runs" in printed
    assert "monotone fit: 4" in printed


@pytest.mark.slow
def test_run_until_the_answer_is_known_then_report(file, tmp_path, capsys):
    output = str(tmp_path / "results")
    asked = ["--set", "question={losses=[10.0], times=[1.0]}", "flow.horizon=2.0", "seeds=2"]
    run = ["run", file, "--output", output, *asked]
    assert "Argument `budget_runs` must be given" in refused(
        [*run, "--until", "half-width", "0.3"], capsys
    )
    main([*run, "--until", "half-width", "0.3", "--budget-runs", "20", "--check-tolerance"])
    printed = capsys.readouterr().out
    # 2 of 2 is +-0.42, 6 of 6 is +-0.23; one chunk is 4 seeds.
    assert "6 runs; the widest interval is +-0.230" in printed
    assert "95% intervals cover with at least" in printed
    assert "largest change" in printed
    assert studies.read_study(tmp_path / "results" / "study.toml").seeds == 6
    main(["success", output])
    assert "P(L ≤ 10 by t = 1)" in capsys.readouterr().out
    main(["report", output])
    page = tmp_path / "results" / "report.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert "The same at a tenth of the tolerances" in page.read_text()


def test_results_go_to_a_folder_of_the_studys_name(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["run", file, "--set", "flow.horizon=0.5", 'lift.edges={kind="one_to_one"}',
          'lift.edges_over={"h1->y"={kind="complete"}, "x->h1"={kind="complete"}}'])  # fmt: skip
    assert (tmp_path / "results" / "tiny" / "study.toml").exists()


def test_mistakes_are_sentences_not_tracebacks(file, tmp_path, capsys):
    assert "Perhaps you meant: --flow.horizon" in refused(
        ["run", file, "--flow.horizn", "3"], capsys
    )
    assert "`flow.horizon` must be a positive" in refused(
        ["run", file, "--flow.horizon", "0"], capsys
    )
    assert "does not exist" in refused(["run", str(tmp_path / "none.toml")], capsys)
    assert "holds no finished cell" in refused(["plot", str(tmp_path)], capsys)
    assert "holds no study" in refused(["status", str(tmp_path)], capsys)
    both = ["run", file, "--dask", "tcp://127.0.0.1:1", "--workers", "2"]
    assert "`workers` must be left out with `dask`" in refused(both, capsys)
    unknown = refused(["run", file, "--set", "module.dpth=2"], capsys)
    assert "nearest known key is `module.depth`" in unknown
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_compare(file, tmp_path, capsys):
    output = tmp_path / "compare"
    solvers = ["--solvers", "tsit5", "scipy:LSODA", "--rtols", "1e-3", "--repeats", "0"]
    main(["compare", file, *solvers, "--flow.horizon", "2", "--output", str(output)])
    printed = capsys.readouterr().out
    for word in ("tsit5", "scipy:LSODA", "error", "cost", "horizon"):
        assert word in printed
    assert {f.name for f in output.iterdir()} == {"runs.nc", "table.csv", "work_precision.png"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("run", "status", "plot", "export", "compare"))],
)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "usage: flowlift" in capsys.readouterr().out


def test_help_of_a_study_lists_its_values(file, capsys):
    with pytest.raises(SystemExit):
        main(["run", file, "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--flow.horizon" in printed
    assert "(default: 1.0)" in printed
    assert "learning rate x steps" in printed
