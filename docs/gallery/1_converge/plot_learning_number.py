"""
The learning number
===================

From which size on do nine flows of ten reach a loss? That size, the *learning number*, is found
by a monotone fit, with the sizes between which it lies at 95% confidence. From the table of
:doc:`study 08 </studies/08_convergence_probability>`.
"""

import matplotlib.pyplot as plt
import pandas

table = pandas.read_csv("../../../studies/08_convergence_probability/learning_numbers.csv")
sparse = table[(table.law == "k4") & table.estimate.notna()]

figure, ax = plt.subplots(layout="constrained")
for problem, part in sparse.groupby("problem", sort=False):
    part = part.sort_values("eps")
    errors = [part.estimate - part.above, part.at_most - part.estimate]
    line = ax.errorbar(part.eps, part.estimate, errors, marker="o", capsize=3, label=problem)
    ax.plot(part.eps, part.best_seen, ":", color=line[0].get_color())
ax.set(xscale="log", yscale="log", xlabel="loss to be reached", ylabel="parameters")
ax.invert_xaxis()
figure.legend(loc="outside upper center", ncols=3, title="in-degree 4")

# %%
# Solid: the learning number, with its bracket. Dotted: the smallest size at which any of 100
# flows got there. Smaller losses ask for larger lifts, and being able to is not being sure to.
