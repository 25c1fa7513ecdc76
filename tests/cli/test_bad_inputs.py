"""Bad inputs of all kinds: one sentence, status 2, and nothing written."""

import sys

import pytest
from study_text import TINY

from flowlift.cli import main
from flowlift.sweep import executors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(TINY)
    (tmp_path / "three.toml").write_text("quick = 3\n" + TINY)
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "latin.toml").write_bytes('name = "\xe9"'.encode("latin-1") + TINY[14:].encode())
    (tmp_path / "deep.toml").write_text("a = " + "[" * 10**5)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    return tmp_path


def refusal(arguments, capsys, folder) -> str:
    """The one sentence that the program ends in."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 2, printed.err
    assert sorted(folder.rglob("*")) == before
    assert (folder / "file").read_text() == "kept"
    assert "Traceback" not in printed.err
    return printed.err.strip()


# An assignment of the study, and what the sentence must name.
ASSIGNED = [
    ("first_seed=1000000000000000000000000000000", "`first_seed`"),
    ("seeds=1000000000", "`seeds` must fit into this machine's memory"),
    ("seeds=9223372036854775807", "`seeds` must fit into this machine's memory"),
    ("chunk=0", "`chunk` must be at least 1"),
    ("chunk=100000000000000000000000", "`chunk` must be less than 2^63"),
    ("flow.max_steps=100000000000000000000000000", "`max_steps` must be an integer from 1 to 2^53"),
    ("seeds=1979-05-27", "key `seeds` must be an integer"),
    ('vary={"flow.rtol"=[]}', "`vary.flow.rtol` must hold distinct values"),
    ('vary={"flow.rtol"=[1e-3, 1e-3]}', "`vary.flow.rtol` must hold distinct values"),
    ('vary={"flow.max_steps"=[1, 1.0]}', "`vary.flow.max_steps` must hold distinct values"),
    ('vary={"flow.rtol"=[nan]}', "`vary.flow.rtol` must hold distinct values"),
    ("vary={seeds=[1, 2]}", "must name what a run depends on, but names `seeds`"),
    ("vary={chunk=[1, 2]}", "must name what a run depends on, but names `chunk`"),
    ('vary={"module.dpth"=[1]}', "nearest known key is `module.depth`"),
    ("vary=[1]", "key `vary` must be a table"),
    ("vary={a=1}", "key `vary.a` must be a list"),
    ("alternatives=[1]", "key `alternatives` must be a table"),
    ("alternatives={a={b=3}}", "key `alternatives.a.b` must be a table"),
    ('alternatives={a={b={"flow.rtol"="x"}}}', "key `flow.rtol` must be a number"),
    ("quick=3", "key `quick` must be a table, but is 3"),
    ("observe=3", "key `observe` must be a table"),
    ("observe={}", "`observe.quantities` is missing"),
    ("name.b=1", "key `name` must be a table, but is 'tiny'"),
    ("=1", "key `` is unknown"),
    ("flow.rtol=nan", "key `flow.rtol` must be a number, but is nan"),
    ("flow.atol=inf", "`atol` must be a finite number"),
    ("flow.horizon=1e400", "`flow.horizon` must be a positive finite"),
    ("flow.per_decade=10000000000", "`per_decade`"),
    ("flow.first_time=inf", "`start` of LogTimes"),
    ("flow.loss_below=inf", "`threshold` of LossBelow"),
    ("lift.sizes=[1000000000]", "must fit into this machine's memory"),
    ("lift.sizes=[100000000000000000000]", "`copies['h1']` must be at most 2^31 - 1"),
    ("lift.ratios={h1=inf}", "`ratios['h1']`"),
    ("lift.edges.kind=[1]", "but is [1]; choose one"),
    ("module.kind=3", "but is 3; choose one"),
    ("module=[1]", "`module"),
    ("module.inputs=3", "must have samples of shape (3,) for vertex 'x', but has (2,)"),
    ("module.depth=1000000", "`depth` must fit into this machine's memory"),
    ("task.samples=1000000000000", "`samples` must fit into this machine's memory"),
    ("task='periodic'", "`task"),
    ("question={losses=[nan]}", "key `question.losses` must be a number"),
    ("question={losses=[inf]}", "`losses` must hold finite numbers"),
    ("question={losses=[1.0], times=[-1.0]}", "`times` must hold positive finite numbers"),
    ('seeds_at_most={"\u0664"=1}', "`seeds_at_most` must give lift sizes"),
    ("name=''", "`name` must be the name of a folder"),
    ("name='../evil'", "`name` must be the name of a folder"),
    ('name="a\\u0000b"', "`name` must be the name of a folder"),
    ('name="a\\nb"', "`name` must be the name of a folder"),
    (f'name="{"x" * 300}"', "`name` must be the name of a folder"),
    ("task.harmonics={}", "`harmonics` must hold at least one frequency"),
]


@pytest.mark.parametrize(("assignment", "message"), ASSIGNED, ids=[a for a, _ in ASSIGNED])
def test_assignments(assignment, message, folder, capsys):
    said = refusal(["run", "t.toml", "--set", assignment], capsys, folder)
    assert message in said
    assert "\n" not in said
    assert said.startswith("flowlift: ")
    assert said.endswith(".")


_UNTIL = ["run", "t.toml", "--until", "half-width", "0.1"]
RUNS = [
    (["run", "binary.toml"], "byte 128 is none"),
    (["run", "latin.toml"], "must be text in UTF-8"),
    (["run", "deep.toml"], "Study file 'deep.toml'"),
    (["run", "folder"], "'folder' is a folder"),
    (["run", "none.toml"], "does not exist"),
    (["run", "a\0b"], "does not exist"),
    (["run", "three.toml"], "key `quick` must be a table, but is 3"),
    (["run", "three.toml", "--quick"], "key `quick` must be a table, but is 3"),
    (["run", "t.toml", "--every", "-1"], "`every` must be a number of seconds of at least 0"),
    (["run", "t.toml", "--every", "nan"], "`every` must be a number of seconds of at least 0"),
    (["run", "t.toml", "--flow.rtol", "nan"], "key `flow.rtol` must be a number, but is nan"),
    (["run", "t.toml", "--flow.rtol", "-1"], "`rtol` must be"),
    (["run", "t.toml", "--shard", "1/1"], "`shard` must be (i, n)"),
    (["run", "t.toml", "--shard", "a"], "`shard` must read I/N"),
    (["run", "t.toml", "--workers", "-1"], "`workers` must be a number of processes, or 0"),
    (["run", "t.toml", "--workers", "100000"], "4 for each core of this machine"),
    (["run", "t.toml", "--output", "file"], "`output` must be a folder, or free, but 'file'"),
    (["run", "t.toml", "--output", "file/below"], "`output` must be a folder, or free"),
    (_UNTIL, "`budget_runs` must be given"),
    (["run", "t.toml", "--budget-runs", "9"], "`budget_runs` must be given with `until` alone"),
    (
        ["run", "t.toml", "--until", "half-width", "0.1", "--shard", "1/2"],
        "`shard` must be left out",
    ),
    (["run", "t.toml", "--until", "half-width", "0.1", "--retry-failed"], "`retry_failed` must be"),
    (["compare", "t.toml", "--size", "0"], "`size` must be an integer of at least 1"),
    (["compare", "t.toml", "--size", "1000000000"], "must fit into this machine's memory"),
    (["compare", "t.toml", "--repeats", "-1"], "`repeats` must be an integer of at least 0"),
    (["compare", "t.toml", "--rtols", "nan"], "`rtols` must hold numbers between 0 and 1"),
    (["compare", "t.toml", "--solvers", "gd:x"], "gd:LEARNING_RATE"),
    (["compare", "t.toml", "--solvers", "foo"], "but holds 'foo'"),
    (["compare", "t.toml", "--max-gradients", "nan"], "`max_gradients` must be"),
    (["compare", "t.toml", "--max-gradients", "0"], "`max_gradients` must be"),
    (["compare", "t.toml", "--output", "file"], "`output` must be a folder, or free"),
    (["status", "file"], "must be a folder written by `flowlift run`"),
    (["plot", "folder"], "holds no finished cell"),
    (["success", "a\0b"], "must be a folder written by `flowlift run`"),
    (["export", "none"], "must be a folder written by `flowlift run`"),
    (["report", "folder", "--output", "folder"], "`output` must be a file, or free"),
    (["plot", "folder", "--output", "file"], "`output` must be a folder, or free"),
    (["check-tolerance", "file"], "must be a folder written by `flowlift run`"),
]


@pytest.mark.parametrize(("arguments", "message"), RUNS, ids=[" ".join(a[:4]) for a, _ in RUNS])
def test_flags_and_files(arguments, message, folder, capsys):
    said = refusal(arguments, capsys, folder)
    assert message in said
    assert "\n" not in said


def test_flags_of_the_study(folder, capsys):
    said = refusal(["run", "t.toml", "--seeds", "-1"], capsys, folder)
    assert "`seeds` must be at least 1, but is -1" in said


@pytest.mark.parametrize("suffix", ["../x", "exe", ""])
def test_formats_of_figures(suffix, folder, capsys):
    assert "suffix" in refusal(["plot", "folder", "--suffix", suffix], capsys, folder)


def test_workers_that_memory_does_not_hold_are_refused(monkeypatch):
    monkeypatch.setattr(executors, "machine_memory", lambda: 10**9)
    monkeypatch.setattr(executors.os, "cpu_count", lambda: 64)
    with pytest.raises(ValueError, match=r"memory of 1 GB, but 3 take at least 1\.5 GB"):
        executors.SpawnedWorkers(3)


def test_what_nobody_foresaw_is_one_line_and_debug_shows_the_traceback(folder, capsys, monkeypatch):
    def broken(*_):
        raise KeyError("lost\nkey")

    monkeypatch.setattr(sys.modules["flowlift.cli.main"], "_obey", broken)
    for flags in ([], ["--debug"]):
        with pytest.raises(SystemExit) as stop:
            main(["run", "t.toml", *flags])
        said = capsys.readouterr().err
        assert stop.value.code == 1
        assert "not foreseen: KeyError ('lost\\nkey') at" in said
        assert "test_bad_inputs.py" in said
        assert ("Traceback" in said) == bool(flags)
        assert flags or said.count("\n") == 1


def test_an_interrupt_is_one_line_and_status_130(folder, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["flowlift.cli.main"], "_obey", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["run", "t.toml"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == (
        "flowlift: interrupted; what was finished is kept; the same command goes on from there.\n"
    )
