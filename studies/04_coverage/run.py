"""How many copies of a small network does a random sparse lift hold?

python studies/04_coverage/run.py            # lifts of up to a million copies, a few minutes
python studies/04_coverage/run.py --quick    # up to 64,000: under a minute
"""

import dataclasses
import itertools
import os
import time
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro
from scipy import stats

from flowlift import diagnostics, modules, plot
from flowlift.doing import shown
from flowlift.lift import BernoulliInDegree, Gaussian, Lift, from_edges, sample

MODULE = modules.mlp(2, depth=2, bias=False, vector_input=False)
# Copies of h1 read one of two coordinates on average, copies of h2 two copies of h1.
EDGES = {"x->h1": BernoulliInDegree(1), "h1->h2": BernoulliInDegree(2)}
WEIGHTS = dict.fromkeys(EDGES, Gaussian())
ETA = 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results/coverage")

    @property
    def sizes(self) -> list[int]:
        """n."""
        return [1000 * 4**i for i in range(4 if self.quick else 6)]

    @property
    def seeds(self) -> int:
        """Lifts of each size."""
        return 4 if self.quick else 10


def witness(parents: list[tuple[int, float, float]]) -> Lift:
    """One copy of h2 with a parent for each (coordinate read, weight of it, weight into h2)."""
    m = len(parents)
    coordinates, inner, outer = zip(*parents, strict=True)
    edges = {
        "x->h1": (np.array(coordinates), np.arange(m), np.array(inner)),
        "h1->h2": (np.arange(m), np.zeros(m, int), np.array(outer)),
        "h2->y": (np.zeros(1, int), np.zeros(1, int), np.ones(1)),
    }
    return from_edges(MODULE, copies={"h1": m, "h2": 1}, edges=edges)


WITNESSES = {
    2: witness([(0, 0.5, -0.5)]),
    4: witness([(0, 0.5, -0.5), (1, -0.3, 0.8)]),
    8: witness([(0, 0.5, -0.5), (1, -0.3, 0.8), (0, -0.6, 0.2), (1, 0.4, 0.4)]),
}


def count(options: Options) -> pandas.DataFrame:
    """Good and covered copies in every lift, with the exact rates beside them."""
    rows = []
    for n in options.sizes:
        for seed in range(options.seeds):
            clock = time.perf_counter()
            lift = sample(MODULE, copies=n, edges=EDGES, weights=WEIGHTS, seed=seed)
            drawn = time.perf_counter() - clock
            for edges, small in WITNESSES.items():
                laws = {"copies": n, "edges": EDGES, "weights": WEIGHTS}
                clock = time.perf_counter()
                good = int(diagnostics.good_copies(lift, small, "h2", eta=ETA).sum())
                spent = time.perf_counter() - clock
                rows.append(
                    {
                        "witness edges": edges,
                        "n": n,
                        "seed": seed,
                        "good": good,
                        "p": diagnostics.coverage_rate(small, "h2", eta=ETA, **laws),
                        "covered": int(diagnostics.covered(lift, small, "h2").sum()),
                        "p covered": diagnostics.coverage_rate(small, "h2", **laws),
                        "lift edges": lift.n_edges,
                        "seconds to draw": drawn,
                        "seconds to count": spent,
                    }
                )
        print(f"n = {n}: {rows[-1]['lift edges']} edges, {spent:.2f} s to count", flush=True)
    return pandas.DataFrame(rows)


def judge(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Totals over seeds against p n; z in standard deviations between seeds.

    Copies that share an ancestor are good together, so that counts spread more than binomially:
    the standard deviation is that of the seeds, in units of the binomial one pooled over sizes.
    """
    groups = rows.groupby(["witness edges", "n"])
    found = groups.agg(
        seeds=("good", "size"), good=("good", "sum"), mean=("good", "mean"), p=("p", "first")
    )
    sizes = found.index.get_level_values("n")
    found["p n"] = found.p * sizes
    found["ratio"] = found["mean"] / found["p n"]
    binomial = np.sqrt(found["p n"] * (1 - found.p))
    spread = (groups.good.var() / binomial**2).groupby("witness edges").mean()
    found["overdispersion"] = spread.reindex(found.index, level="witness edges").clip(lower=1)
    error = binomial * np.sqrt(found.overdispersion / found.seeds)
    found["z"] = (found["mean"] - found["p n"]) / error
    return found


def drawn_lift() -> tuple[Lift, np.ndarray]:
    """The first small lift with two good copies of the witness of 4 edges; chosen, not typical."""
    laws = {"copies": 14, "edges": EDGES, "weights": WEIGHTS}
    lifts = (sample(MODULE, **laws, seed=seed) for seed in itertools.count())
    pairs = ((lift, diagnostics.good_copies(lift, WITNESSES[4], "h2", eta=ETA)) for lift in lifts)
    return next(pair for pair in pairs if pair[1].sum() >= 2)


def draw(rows: pandas.DataFrame) -> plt.Figure:
    figure = plt.figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (edges, part), colour in zip(
        rows.groupby("witness edges"), ("C0", "C1", "C2"), strict=True
    ):
        left.plot(part.n, part.good, ".", color=colour, alpha=0.5, ms=5)
        line = part.drop_duplicates("n")
        name = f"{edges} edges: p n, p = {line.p.iloc[-1]:.3g}"
        left.plot(line.n, line.p * line.n, "-", color=colour, lw=1, label=name)
    left.set(
        xscale="log", yscale="log", xlabel="lift size n", ylabel="good copies", ylim=(0.7, None)
    )
    left.grid(alpha=0.25)
    left.legend(fontsize=8, title="witness", title_fontsize=8)
    lift, good = drawn_lift()
    first = int(np.flatnonzero(good)[0])
    plot.lift_graph(lift, right, cone=("h2", first), marked={"h2": good})
    plot.caption(
        left,
        "Left: good copies (precision η = 1) in random lifts, every lift a point; lines are p n "
        "with p from the laws, nothing fitted. Right: a lift of 14 copies a layer, drawn until two "
        "were good for the witness of 4 edges (green); red: the in-cone of one of them.",
    )
    return figure


def main(options: Options) -> None:
    """Count, tabulate, draw.

    Args:
        options: what to run.
    """
    rows = count(options)
    options.figures.mkdir(parents=True, exist_ok=True)
    found = judge(rows)
    found.to_csv(options.figures / "summary.csv", float_format="%.6g")
    draw(rows).savefig(options.figures / "coverage.png", dpi=160)
    print(found.to_string(float_format="%.4g"))
    chi = float((found.z**2).sum())
    chance = stats.chi2.sf(chi, len(found))
    print(f"sum of z^2 = {chi:.1f} over {len(found)} cells (chance of more: {chance:.2f})")
    print(f"the claim {'holds' if chance > 0.01 else 'FAILS'} (rejected at 1%)")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("04_coverage"):
        main(chosen)
