"""Study files are read strictly, and written back whole."""

import re

import pytest
from study_text import TEXT

from flowlift import lift, studies, sweep
from flowlift.studies.toml import plain


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return path


def test_a_file_becomes_typed_records(file):
    study = studies.read_study(file)
    assert study.lift.sizes == (4, 8)
    assert study.lift.edges == lift.BernoulliInDegree(2.0)
    assert study.lift.weights_over == {"x->h1": lift.GaussianFanIn(2.0)}
    module = study.module.build()
    assert [v.name for v in module.hidden] == ["h1", "h2"]
    assert study.lift.copies(module, 5) == {"h1": 5, "h2": 2}
    assert study.flow.stops[0].threshold == 0.01
    assert list(study.seeds_of(4)) == [0, 1]
    assert study.task.build(precision="float32").objective.inputs.dtype == "float32"


def test_writing_and_reading_again_gives_the_same_study(file, tmp_path):
    study = studies.read_study(file)
    copy = tmp_path / "copy.toml"
    copy.write_text(studies.to_toml(study))
    assert studies.read_study(copy) == study
    assert studies.structure_study(plain(study)) == study
    assert "rtol = 1e-06" in copy.read_text()


@pytest.mark.parametrize(
    "override",
    [
        'module={kind="attention", tokens=4, channels=2}',
        'module={kind="cnn2d", height=8, width=8, padding="valid"}',
        'module={kind="resnet", shape=[8, 8]}',
        'module={kind="transformer", tokens=8, channels=8}',
        'module={kind="unrolled_rnn", steps=8, inputs=8, gated=true}',
        'task={kind="student_teacher", samples=4, seed=1, teacher={kind="mlp", inputs=2}}',
        'task={kind="gaussian_committee", teachers=3}',
        "task.kind=digits",
        "lift.edges.kind=complete",
    ],
)
def test_every_kind_can_be_named(file, override):
    text = {
        "task.kind=digits": ['task={kind="digits", samples=4}'],
        "lift.edges.kind=complete": ['lift.edges={kind="complete"}'],
    }.get(override, [override])
    study = studies.read_study(file, text)
    assert study != studies.read_study(file)
    assert studies.structure_study(plain(study)) == study


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("module.dpth=3", "key `module.dpth` is unknown; the nearest known key is `module.depth`"),
        ("flw.horizon=3", "key `flw` is unknown; the nearest known key is `flow`"),
        ("task.teacher.depth=3", "key `task.teacher` is unknown"),
        ("flow.rewire.gorw=3", "key `flow.rewire.gorw` is unknown; the nearest known key is"),
        ('flow.rewire={every=1.0, grow="random"}', "key `flow.rewire.drop` is missing"),
        ("flow.rewire=3", "key `flow.rewire` must be a table, but is 3"),
        ('flow.rewire={every=1, drop="a", grow="random"}', "`flow.rewire.drop` must be a number"),
        ('flow.horizon="long"', "key `flow.horizon` must be a number, but is 'long'"),
        ("flow.horizon=nan", "key `flow.horizon` must be a number, but is nan"),
        ("lift.sizes=[1.5]", "key `lift.sizes` must be an integer, but is 1.5"),
        ("lift.sizes=4", "key `lift.sizes` must be a list, but is 4"),
        ("lift.sizes=[]", "`sizes` must hold distinct lift sizes"),
        ("lift.sizes=[4, 4]", "`sizes` must hold distinct lift sizes"),
        ("lift.ratios.h2=-1.0", "`ratios['h2']` must be positive"),
        ("lift.edges.mean=-1", "table `lift.edges`: Argument `mean` of BernoulliInDegree"),
        ("lift=3", "key `lift` must be a table, but is 3"),
        ("seeds=true", "key `seeds` must be an integer, but is True"),
        ("seeds=0", "`seeds` must be at least 1, but is 0"),
        ("seeds_at_most={8=0}", "`seeds_at_most` must give lift sizes numbers of seeds"),
        ("seeds_at_most={large=4}", "`seeds_at_most` must give lift sizes numbers of seeds"),
        ("module.kind=mlq", "key `module.kind` must be one of attention, transformer, "),
        ("module.activation=3", "key `module.activation` must be a string, but is 3"),
        ('task={kind="periodic"}', "key `task.harmonics` is missing"),
        ('vary={"flow.solver"=[[1]]}', "key `vary.flow.solver"),
        ("alternatives={law={}}", "`alternatives.law` must hold at least one label"),
        ('lift.size_counts="layers"', "`size_counts` must be one of copies, edges, parameters"),
        ("nonsense", "An assignment must read key=value"),
    ],
)
def test_mistakes_are_answered_in_one_sentence_with_the_file(file, override, message):
    with pytest.raises(ValueError, match=r"^Study file '.*small.toml': ") as error:
        studies.read_study(file, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_quick_makes_the_assignments_of_its_table(file):
    file.write_text(TEXT + '\n[quick]\nseeds = 1\n"lift.sizes" = [4]\n"flow.horizon" = 1.0\n')
    whole, quick = studies.read_study(file), studies.read_study(file, quick=True)
    assert (whole.seeds, whole.lift.sizes, whole.flow.horizon) == (2, (4, 8), 5.0)
    assert (quick.seeds, quick.lift.sizes, quick.flow.horizon) == (1, (4,), 1.0)
    assert studies.read_study(file, ["seeds=7"], quick=True).seeds == 7


def test_a_file_that_is_no_toml_or_not_there_is_refused(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(ValueError, match=r"broken.toml': Invalid value"):
        studies.read_study(broken)
    with pytest.raises(FileNotFoundError, match="does not exist; check the path"):
        studies.read_study(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("flow.horizon=0", "`flow.horizon` must be a positive finite flow time"),
        ("flow.rtol=-1e-3", "`rtol` must be a finite number"),
        ("flow.loss_below=inf", "`threshold` of LossBelow must be"),
        ("flow.first_time=9.0", "`start` of LogTimes must lie between"),
        ("flow.max_steps=0", "`max_steps` must be an integer from 1"),
        ("flow.solver=tsit6", "`solver` must be a diffrax solver or one of"),
        ("precision=half", "`precision` must be one of"),
        ('lift.edges={kind="fixed_in_degree", degree=9}', "in-degree of at most the number"),
        ("lift.ratios.h9=1.0", "`ratios` must name hidden vertices"),
        ('lift.edges_over={"h1->h9"={kind="complete"}}', "`edges` must name base edges"),
        ("module.depth=0", "`depth` must be an integer of at least 1"),
        ("task.samples=2", "take more samples"),
        ('vary={"flow.slver"=["tsit5"]}', "the nearest known key is `flow.solver`"),
        ('vary={"flow.rtol"=[1e-3, -1.0]}', "`rtol` must be a finite number"),
    ],
)
def test_studies_that_could_not_run_are_refused_before_anything_is_written(
    file, tmp_path, override, message
):
    study = studies.read_study(file, [override])
    with pytest.raises(ValueError, match=re.escape(message)):
        sweep.run_study(study, tmp_path / "results")
    assert not (tmp_path / "results").exists()
