"""
Spurious minima
===============

ReLU students that are as many as their orthogonal teachers may end in a minimum that is not
global (Safran and Shamir, ICML 2018). One more student, and hardly any does. 6000 exact flows of
:doc:`study 02 </studies/02_spurious_minima>`, from its table.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas
from scipy.stats import binomtest

runs = pandas.read_csv("../../../studies/02_spurious_minima/runs.csv")
cases = [(6, 6), (6, 7), (7, 7), (7, 8), (9, 9), (9, 10)]
published = {(6, 6): 0.003, (7, 7): 0.055, (9, 9): 0.218}

shares, errors = [], []
for k, n in cases:
    spurious = runs[(runs.teachers == k) & (runs.students == n)].final_loss > 1e-3
    interval = binomtest(int(spurious.sum()), len(spurious)).proportion_ci()
    shares.append(spurious.mean())
    errors.append((spurious.mean() - interval.low, interval.high - spurious.mean()))
figure, ax = plt.subplots(layout="constrained")
ax.bar(range(6), shares, yerr=np.transpose(errors), capsize=4, label="exact flow, 1000 each")
places = [cases.index(case) for case in published]
ax.plot(places, list(published.values()), "k_", ms=30, label="published, gradient descent")
ax.set_xticks(range(6), [f"{k} teachers\n{n} students" for k, n in cases], fontsize=8)
ax.set_ylabel("share of runs that end above L = 0.001")
ax.legend()

# %%
# Error bars are exact 95% intervals of 1000 flows. The published shares lie within them.
