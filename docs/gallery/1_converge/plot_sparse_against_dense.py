"""
Sparse against dense
====================

Lifts of in-degree 2, 4 and 8 and dense ones learn a teacher's outputs. At equal *parameters*,
which reach a loss of 0.001 more often? 100 flows of each size, from the table of :doc:`study 08
</studies/08_convergence_probability>`.
"""

import matplotlib.pyplot as plt
import pandas
from scipy.stats import binomtest

runs = pandas.read_csv("../../../studies/08_convergence_probability/runs.csv")
runs = runs[runs.problem == "teacher_mlp"]
names = {"k2": "in-degree 2", "k4": "in-degree 4", "k8": "in-degree 8", "dense": "dense"}

figure, ax = plt.subplots(layout="constrained")
for law, name in names.items():
    reached = runs[runs.law == law]["t_0.001"].notna().groupby(runs["size"])
    wins, flows = reached.sum(), reached.count()
    bounds = [binomtest(int(w), int(n)).proportion_ci() for w, n in zip(wins, flows, strict=True)]
    line = ax.plot(wins.index, wins / flows, "o-", ms=4, label=name)[0]
    low, high = [b.low for b in bounds], [b.high for b in bounds]
    ax.fill_between(wins.index, low, high, alpha=0.15, color=line.get_color(), lw=0)
ax.set(xscale="log", xlabel="expected parameters", ylabel="share of flows with L ≤ 0.001")
ax.legend()

# %%
# Every curve rises to 1, as the theorem of random sparse lifts has it; here the dense ones are
# first. Bands are exact 95% intervals.
