"""Tables of a study that change its loss: decay, output, label noise, terms."""

import numpy as np
import pytest
from study_text import TINY

import flowlift
from flowlift import studies, sweep, tasks
from flowlift.studies.grid import rows
from flowlift.sweep.cell import model_maker, study_task
from flowlift.sweep.checking import check_study

TABLES = """
[decay]
"x->h1" = 0.1
[output]
scale = 2.0
centred = true
[label_noise]
noise = 0.2
seed = 1
[terms.small]
kind = "l1"
"""


def read(tmp_path, text, *overrides):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return studies.read_study(path, overrides)


def test_a_study_has_the_loss_of_its_tables(tmp_path):
    # At its kink the term would hold an explicit method to ever shorter steps.
    study = read(tmp_path, TINY + TABLES, "flow.max_steps=50")
    found = sweep.run_study(study, tmp_path / "results").isel(size=0, seed=0)
    lift, bare = model_maker(study)(4, 0), study_task(read(tmp_path, TINY))
    task = tasks.with_label_noise(bare, 0.2, seed=1)
    task = tasks.with_output(task, scale=2.0, start=lift)
    task = tasks.with_term(tasks.with_decay(task, {"x->h1": 0.1}), tasks.L1())
    flow = flowlift.solve(lift, task, 1.0, solver="tsit5", max_steps=50)
    np.testing.assert_allclose(found.final_loss, flow.loss[-1], rtol=1e-12)
    kept = study_task(study, lift).provenance
    assert {"decay", "output", "label_noise", "terms"} <= kept.keys()
    again = read(tmp_path, studies.to_toml(study))
    names = lambda study: [run for row in rows(study) for run in row.runs]
    assert names(again) == names(study) != names(read(tmp_path, TINY))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[decay]\n"x->h1" = -1.0\n', "at least 0"),
        ('[decay]\n"x->h9" = 1.0\n', "'x->h9' names none of"),
        ('[rates]\n"x->h1" = 0\n[decay]\n"x->h1" = 1.0\n', "'x->h1' names none of"),
        ("[output]\nscale = 0.0\n", "other than 0"),
        ("[label_noise]\nnoise = -1.0\nseed = 0\n", "at least 0"),
        ('[terms.a]\nkind = "l2"\n', "l2"),
    ],
)
def test_tables_that_make_no_loss_are_refused(tmp_path, table, words):
    with pytest.raises(ValueError, match=words):
        check_study(read(tmp_path, TINY + table))
