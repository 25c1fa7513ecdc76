"""
The plateau of a committee
==========================

Three students learn three teachers on Gaussian inputs (Saad and Solla, 1995). At first all
students are alike: the loss stays on the *symmetric plateau*, whose value is known, until they
choose a teacher each.
"""

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib.pyplot as plt

import flowlift
from flowlift import diagnostics, lift, modules, tasks

task = tasks.erf_committee(3, inputs=10)
student = flowlift.sample(
    modules.committee(10), copies=3, edges=lift.Complete(), weights=lift.Gaussian(1e-2), seed=0
)
overlaps = {"R": diagnostics.observer("teacher_overlaps", task)}
run = flowlift.solve(
    student, task, 1e4, rates={"h1->y": 0}, save=flowlift.LogTimes(20), observers=overlaps
)

figure, (above, below) = plt.subplots(2, sharex=True, layout="constrained")
above.loglog(run.times[1:], run.loss[1:])
above.axhline(float(task.facts["plateau loss"]), color="0.5", ls=":", label="symmetric plateau")
above.set(ylabel="loss", ylim=(1e-8, 3))
above.legend()
below.semilogx(run.times[1:], run.observations["R"][1:].reshape(len(run.times) - 1, -1))
below.set(xlabel="t", ylabel="overlaps with teachers")

# %%
# Above, the loss rests on the dotted line; below, the nine overlaps of students with teachers
# leave one another where it falls.
