"""A study of committees: every run certified, and stuck ones told from those still falling."""

import jax
import numpy as np
import pytest

from flowlift import answers, studies, sweep
from flowlift.tasks.gaussian_committee import committee_loss

FILE = "studies/02_spurious_minima/study.toml"


@pytest.fixture(scope="module")
def study(request):
    small = [
        "module.inputs=2",
        "task.teachers=2",
        "lift.sizes=[2]",
        "seeds=3",
        'flow.solver="tsit5"',
    ]
    bounds = ["flow.gradient_norm_below=1e-4", "flow.critical_gradient_norm=1e-4"]
    path = request.config.rootpath / FILE
    return studies.read_study(path, [*small, *bounds, "flow.rtol=1e-3", "flow.horizon=100.0"])


def test_every_run_holds_its_certificate(study, tmp_path):
    results = sweep.run_study(study, tmp_path, progress=False)
    assert (results.result == "gradient below").all()
    assert (results.final_gradient_norm <= results.gradient_norm_bound).all()
    assert results.gradient_norm_bound.values.tolist() == [[1e-4] * 3]
    assert results.curvature_bound.values.tolist() == [[1e-7] * 3]
    assert results.certificate_hvps.values.tolist() == [[4] * 3]
    # All end at the teachers, in either order.
    bend = jax.jit(jax.hessian(committee_loss))(np.eye(2), np.eye(2)).reshape(4, 4)
    np.testing.assert_allclose(results.least_eigenvalue, np.linalg.eigvalsh(bend)[0], rtol=1e-2)
    assert (answers.outcomes(results, 1e-6) == "converged").all()
    # Below what was reached, the same ends are critical points at which the flow is stuck.
    assert (answers.outcomes(results, 1e-12) == "stuck").all()
    assert (answers.outcomes(results, 1e-6, 1.0) == "not yet").all()


def test_the_study_takes_other_numbers_of_teachers_and_students(request):
    file = request.config.rootpath / FILE
    for k in (6, 15):
        other = [f"module.inputs={k}", f"task.teachers={k}", f"lift.sizes=[{k}, {k + 1}]"]
        sweep.check_study(studies.read_study(file, other))
    study = studies.read_study(file, quick=True)
    assert (study.seeds, study.lift.sizes) == (100, (9,))
