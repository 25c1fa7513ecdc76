"""What telling of progress costs: its share of a flow's processor time, counted where it is made.

    python benchmarks/progress.py

A small flow is the worst case: its legs are the shortest. The time within the calls is summed in
the very run that it is a share of, so that a busy machine changes both.
"""

import functools
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import flowlift
from flowlift import modules, tasks
from flowlift.flow import loop


def counted(telling, spent):
    """`telling` whose calls are counted and timed."""

    def begin(*args):
        context = telling(*args)

        class Counting:
            def __enter__(self):
                tell = context.__enter__()

                def told(*where):
                    begun = time.process_time()
                    tell(*where)
                    spent.append(time.process_time() - begun)

                return told

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Counting()

    return begin


def main():
    task = tasks.periodic({1: 1.0, 3: 0.5}, samples=64)
    telling = loop.telling
    quiet = {"off": False, "function": lambda now: None, "bar": True}
    for copies, solver in ((8, "tsit5"), (8, "bdf"), (64, "bdf")):
        module = modules.mlp(inputs=2, depth=2, activation="tanh")
        edges = flowlift.BernoulliInDegree(4.0)
        lift = flowlift.sample(module, copies=copies, edges=edges, seed=0)
        solve = functools.partial(flowlift.solve, lift, task, 1000.0, solver=solver)
        solve()
        for name, progress in quiet.items():
            spent = []
            loop.telling = counted(telling, spent)
            begun = time.process_time()
            solution = solve(progress=progress)
            whole = time.process_time() - begun
            loop.telling = telling
            share = f"{100 * sum(spent) / whole:.2f} % of {whole:.2f} CPU s"
            print(
                f"P = {lift.n_parameters:4d} {solver:6s} {name:9s} {len(spent):5d} calls in "
                f"{solution.stats.legs} legs, {solution.stats.steps} steps: {share}"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
