"""
Five solvers on a stiff flow
============================

A small lift on a periodic signal to t = 1000: what does each solver pay for the error that it
reaches? Cost is counted, in gradients and Hessian-vector products (two each), rejected steps
included.
"""

import jax

import flowlift
from flowlift import compare, modules, plot, tasks

jax.config.update("jax_enable_x64", True)
lift = flowlift.sample(modules.mlp(inputs=2, depth=1), copies=12, edges=flowlift.Complete(), seed=0)
task = tasks.periodic({1: 1.0, 3: 0.5}, samples=32)
results = compare.compare(
    lift,
    task,
    1e3,
    solvers=["bdf", "exprb", "rkc2", "tsit5", "kvaerno5"],
    rtols=[1e-2, 1e-3, 1e-4, 1e-5],
    repeats=0,
)
plot.work_precision(results)

# %%
# Lower and further left is better. Explicit steps (tsit5) are bounded by stability, and cost the
# same at all tolerances.
