"""
The largest margin, at t = e^1000
=================================

On separable data the flow of an exponential loss goes to infinity, and its direction to the
largest margin (Soudry et al., 2018), so slowly that time has to be counted in log t.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

import flowlift
from flowlift import flow, tasks

jax.config.update("jax_enable_x64", True)
x = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -0.5]])
y = np.array([1.0, 1.0, -1.0, -1.0])
task = tasks.supervised(x, y, "exponential", apply=lambda m, x: x @ m["w"])
start = {"w": np.array([0.1, -0.1])}
times = np.geomspace(1, 1000, 60)
run = flowlift.solve(start, task, 1000.0, dynamics=flow.LogLoss(1.0), save=times)

margins = {"type": "ineq", "fun": lambda w: y * (x @ w) - 1}
svm = minimize(lambda w: w @ w, [1.0, 1.0], constraints=margins)
largest = 1 / np.linalg.norm(svm.x)
figure, ax = plt.subplots(layout="constrained")
ax.loglog(run.times[1:], 1 - run.observations["normalised_margin"][1:] / largest, label="flow")
ax.loglog(times, 1 / times, "k--", label="1 / log t")
ax.set(xlabel="log(1 + t)", ylabel="what is missing of the largest margin, relative")
ax.legend()

# %%
# After t = e^1000 a thousandth is missing still. The largest margin is that of a support vector
# machine, computed by itself.
