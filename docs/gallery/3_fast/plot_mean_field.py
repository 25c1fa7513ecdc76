"""
The mean-field limit
====================

Networks of m neurons, each with 1/m of the output, follow one limiting equation as m grows
(Montanari and Urbani, 2025). Eight flows of each width in 200 dimensions, from the table of
:doc:`study 12 </studies/12_mean_field>`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas

table = pandas.read_csv("../../../studies/12_mean_field/summary.csv")
widths = sorted(table.m.unique())
colours = plt.get_cmap("viridis")(np.linspace(0.9, 0, len(widths)))

figure, ax = plt.subplots(layout="constrained")
for width, colour in zip(widths, colours, strict=True):
    flows = table[table.m == width].pivot(index="t", columns="seed", values="test")
    ax.fill_between(
        flows.index, flows.min(axis=1), flows.max(axis=1), color=colour, alpha=0.2, lw=0
    )
    ax.plot(flows.index, flows.mean(axis=1), color=colour, label=f"m = {width}")
limit = table[table.m == widths[0]].drop_duplicates("t")
ax.plot(limit.t, limit.limit, "k--", label="limit")
ax.set(xlabel="t (the paper's)", ylabel="test error", yscale="log")
ax.legend()

# %%
# Bands hold all eight flows. The gap to the limit is a bias of finite width, not a fluctuation.
