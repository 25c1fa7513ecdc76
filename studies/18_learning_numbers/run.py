"""How does the learning number grow with the approximation number?

python studies/18_learning_numbers/run.py            # both laws; goes on where it stopped
python studies/18_learning_numbers/run.py --quick    # three teachers, under 90 s
"""

import bisect
import dataclasses
import functools
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import relus
import scipy.sparse
import tyro
import xarray
from matplotlib.ticker import NullFormatter
from scipy.sparse import csgraph

from flowlift import answers, lift, plot, studies, sweep
from flowlift.doing import shown

HERE = Path(__file__).parent
# Teachers by their hidden vertices m (2 m + 1 vertices), and the lift sizes asked of each.
SIZES = {
    "in-degree 4": {
        2: (2, 3, 4),
        3: (3, 4, 5),
        5: (5, 6, 7, 9),
        8: (8, 10, 12, 15),
        12: (14, 17, 20, 25),
        20: (24, 28, 33, 40),
        32: (52, 62, 75, 90),
        50: (76, 92, 108, 130),
        70: (105, 138, 170, 220),
        100: (150, 200, 250, 330),
    },
    # Up to three inputs in-degree 4 reads them all.
    "dense": {
        5: (5, 7, 10),
        8: (8, 9, 12, 15),
        12: (12, 13, 14, 18),
        20: (20, 21, 23, 26),
        32: (32, 33, 34, 36),
        50: (50, 54, 58, 64, 74, 90),
    },
}
CHANGES = {
    "in-degree 4": lambda m: (),
    # The same variance of pre-activations.
    "dense": lambda m: (
        'lift.edges={kind="complete"}',
        f'lift.weights={{kind="gaussian", scale={m**-0.5}}}',
    ),
}
QUICK = {"in-degree 4": {2: (2, 4), 5: (5, 7), 8: (9, 12)}}
# A second fit leaves out teachers that lifts of no more than m copies learn.
FROM = 8
# A design adds seeds where an interval is wider than this: a sixth more runs at most, and two
# thirds more of the largest teacher, whose first 36 lifts of each size no curve fitted. Its flows
# to t = 10^5 take most of a minute of CPU each, and end at 10^4.
HALF_WIDTH = 0.1
LARGE, LARGE_HORIZON = 100, 1e4
# Longer flows know what had converged by then.
SHORTER = (1e3, 1e4)
COLOURS = {"in-degree 4": "C0", "dense": "0.35"}
# The figure shows this loss and these times.
SHOWN, SHOWN_TIMES = 0.001, (1e3, 1e4)
# A logistic curve that fits the counts worse than this (p) gives no number.
LEAST_FIT = 0.01


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        results: folder of cells; results/learning_numbers by default.
        figures: folder of figure and tables; that of the results by default.
    """

    quick: bool = False
    results: Path | None = None
    figures: Path | None = None


def study_of(law: str, m: int, sizes: tuple[int, ...], *, quick: bool) -> studies.Study:
    """Lifts of these sizes that learn the teacher of m ReLUs."""
    changes = [f"module.inputs={m}", f"task.inputs={m}", f"lift.sizes={list(sizes)}"]
    changes += [f"flow.horizon={LARGE_HORIZON}"] if m >= LARGE else []
    return studies.read_study(HERE / "study.toml", [*changes, *CHANGES[law](m)], quick=quick)


def run(options: Options) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Every teacher's design: counts by size, and learning numbers."""
    folder = options.results or Path("results") / "learning_numbers"
    counts, numbers = [], []
    for law, teachers in (QUICK if options.quick else SIZES).items():
        for m, sizes in teachers.items():
            study = study_of(law, m, sizes, quick=options.quick)
            spent = sweep.run_until(
                study,
                folder / f"{law.replace(' ', '_')}_{m}",
                half_width=HALF_WIDTH,
                budget_runs=study.seeds * len(sizes) * (7 if m < LARGE else 10) // 6,
            )
            able = able_lifts(study, spent.results)
            for answer in answers.answers(spent.results, asked_by(study)):
                place = {"law": law, "m": m, "eps": answer.loss, "t": answer.time}
                table = answer.table
                if answer.time == study.flow.horizon:
                    table = table.join(by_graph(able, spent.results, answer.loss))
                counts.append(table.reset_index().assign(**place))
                ((_, number, either),) = answer.numbers
                numbers.append(place | described(study, answer.loss, number, either))
    return pandas.concat(counts, ignore_index=True), pandas.DataFrame(numbers)


def asked_by(study: studies.Study) -> studies.Question:
    """The study's question, and what it would have answered had the flows been shorter."""
    times = [t for t in SHORTER if t < study.flow.horizon]
    return dataclasses.replace(study.question, times=(*times, study.flow.horizon))


def able_lifts(study: studies.Study, results: xarray.Dataset) -> dict[int, np.ndarray]:
    """By size, of each lift in the results whether its graph can hold the teacher."""
    found, module = {}, relus.relus(study.module.inputs)
    for size in results["size"].values.tolist():
        shape = size, study.module.inputs
        able = []
        for seed in results.final_loss.sel(size=size).dropna("seed").seed.values.tolist():
            one = lift.sample(module, copies=size, edges={"x->h1": study.lift.edges}, seed=seed)
            inputs, copies, _ = one.edges("x->h1")
            able.append(holds_all(copies, inputs, shape))
        found[size] = np.array(able)
    return found


def by_graph(
    of_sizes: dict[int, np.ndarray], results: xarray.Dataset, eps: float
) -> pandas.DataFrame:
    """By size, of how many lifts the graph can hold the teacher, and what became of the others."""
    rows = []
    for size, able in of_sizes.items():
        met = results.final_loss.sel(size=size).dropna("seed").values <= eps
        row = {"size": size, "able": able.sum(), "able, converged": (able & met).sum()}
        rows.append(row | {"unable, converged": (~able & met).sum()})
    return pandas.DataFrame(rows).set_index("size")


def holds_all(copies: np.ndarray, inputs: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether each input has a copy of its own that reads it, of edges input -> copy.

    If so, such copies are the teacher for some weights. If not, the rows w_i have rank below m for
    all weights, and L >= 1 / (4 pi): the second Hermite component of the output misses that of
    the target by sum_i c_i w_i w_i^T - 1, of Frobenius norm 1 or more.
    """
    reads = scipy.sparse.csr_array((np.ones(len(inputs)), (copies, inputs)), shape)
    found = csgraph.maximum_bipartite_matching(reads, perm_type="column")
    return np.count_nonzero(found >= 0) == shape[1]


# Asked again for each loss.
@functools.cache
def least_size(m: int, mean: float, probability: float, *, graphs: int = 1000) -> int:
    """From which size on a random graph holds the teacher with a probability, by so many graphs."""

    def often(size: int) -> bool:
        rng = np.random.default_rng(size)
        draws = (np.nonzero(rng.random((size, m)) < mean / m) for _ in range(graphs))
        return sum(holds_all(*pairs, (size, m)) for pairs in draws) >= probability * graphs

    # Four times m inputs are read by the sparsest lifts here with probability above 0.99.
    return m + bisect.bisect_left(range(m, 4 * m), True, key=often) if mean < m else m


def described(study: studies.Study, eps: float, number, either) -> dict:
    """A learning number with its intervals, and what bounds it and approximation."""
    m, witness = study.module.inputs, answers.planted_witness(study, eps)
    mean = getattr(study.lift.edges, "mean", m)
    return {
        "vertices": 2 * m + 1,
        "witness": None if witness is None else witness.size,
        "graph": least_size(m, mean, 1 - study.question.delta),
        **likeliest(m, number),
        "monotone": number.estimate,
        "above": number.above,
        "at most": number.at_most,
        "misfit": number.logistic.misfit,
        "at most, undecided converge": either.at_most,
        "not observed": number.unknown,
    }


def likeliest(m: int, number: answers.LearningNumber) -> dict:
    """The crossing of the logistic fit with its interval; no lift of fewer than m copies will do.

    Where lifts of m copies learn and no curve is to be fitted, m itself is the number. Where they
    do not, but all of the next size, curves of any steepness fit, and there is the interval alone;
    where no curve fits, the exact interval.
    """
    logistic, size = number.logistic, number.logistic.size
    if logistic.misfit is not None and logistic.misfit < LEAST_FIT:
        ends = number.above or m, number.at_most or np.inf
        return {"number": np.nan, "low": max(m, ends[0]), "high": ends[1]}
    if size is None and number.estimate is not None and number.estimate <= m:
        size = m
    ends = {"low": max(m, logistic.low), "high": max(m, logistic.high)}
    return {"number": np.nan if size is None else max(m, size), **ends}


def fits(numbers: pandas.DataFrame) -> pandas.DataFrame:
    """By law, loss and time, the exponent of m, of all teachers and of those from m = FROM on.

    Numbers that no exact interval bounds from above are left out.
    """
    found = []
    for (law, eps, t), part in numbers.groupby(["law", "eps", "t"], sort=False):
        known = part[part.number.notna() & part["at most"].notna()]
        row = {
            "law": law,
            "eps": eps,
            "t": t,
            "teachers": len(known),
            "bounds only": len(part) - len(known),
        }
        for name, used in (("", known), (f" from {FROM}", known[known.m >= FROM])):
            if used.m.nunique() > 2:
                line = answers.log_log_line(used.m, used.number)
                ends = {f"low{name}": line.low, f"high{name}": line.high}
                row |= {f"exponent{name}": line.exponent, **ends}
        found.append(row)
    return pandas.DataFrame(found)


def draw(numbers: pandas.DataFrame, exponents: pandas.DataFrame) -> plt.Figure:
    figure = plt.figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    m = np.unique(numbers.m)
    dense_m = np.arange(m.min(), m.max() + 1)
    left.plot(dense_m, dense_m, "k--", lw=1, label="approximation number: m ReLUs")
    right.axhline(1, color="k", lw=1, ls="--")
    held = numbers[numbers.law == "in-degree 4"].drop_duplicates("m")
    style = {"ls": ":", "color": COLOURS["in-degree 4"], "lw": 1.2}
    left.plot(held.m, held.graph, label="in-degree 4: 0.9 of the graphs hold it", **style)
    right.plot(held.m, held.graph / held.m, **style)
    shown = numbers[(numbers.eps == SHOWN) & numbers.t.isin(SHOWN_TIMES)]
    for (law, t), part in shown.groupby(["law", "t"], sort=False):
        of_all = (exponents.law == law) & (exponents.eps == SHOWN) & (exponents.t == t)
        line = exponents[of_all].iloc[0]
        power = (
            f": m^{line.exponent:.2f} ({line.low:.2f} .. {line.high:.2f})"
            if np.isfinite(line.get("exponent", np.nan))
            else ""
        )
        late = t == max(SHOWN_TIMES)
        style = {"color": COLOURS[law], "mfc": COLOURS[law] if late else "w", "ms": 5}
        for panel, unit in ((left, 1), (right, part.m)):
            _bars(
                panel,
                part,
                unit,
                1.03 if late else 0.97,
                style | {"marker": "s" if late else "o"},
                f"{law}, by t = {t:,.0f}{power}",
            )
    left.set(xscale="log", yscale="log", ylabel="learning number n (copies), δ = 0.1")
    right.set(xscale="log", ylabel="learning / approximation number", ylim=(0, None))
    for panel in (left, right):
        panel.set(xlabel="approximation number m (hidden vertices of the teacher)")
        panel.set_xticks(m, [str(k) for k in m])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25)
    left.legend(fontsize=7)
    plot.caption(
        left,
        f"From which size on do flows of random lifts reach L = {SHOWN} with probability 0.9? "
        "Marks and bars: where the logistic fit crosses 0.9, with 95% profile-likelihood intervals "
        "(triangles: open above; without a mark: all lifts of the next size converged, or no curve "
        "fits). Dotted: "
        "from which size on nine of ten random graphs can hold the teacher at all.",
    )
    return figure


def _bars(panel, part: pandas.DataFrame, unit, shift: float, style: dict, label: str) -> None:
    """One law and time: estimates, and intervals that end in an arrow where they are open."""
    x, high = part.m * shift, part.high / unit
    panel.plot(x, part.number / unit, ls="none", label=label, **style)
    closed = np.isfinite(high)
    ends = (part.low / unit)[closed], high[closed]
    panel.vlines(x[closed], *ends, color=style["color"], lw=1.2)
    panel.plot(x[~closed], (part.low / unit)[~closed], "^", color=style["color"], mfc="w", ms=7)


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    counts, numbers = run(options)
    folder = options.figures or options.results or Path("results") / "learning_numbers"
    folder.mkdir(parents=True, exist_ok=True)
    counts.to_csv(folder / "summary.csv", float_format="%.4g", index=False)
    numbers.to_csv(folder / "numbers.csv", float_format="%.4g", index=False)
    exponents = fits(numbers)
    exponents.to_csv(folder / "exponents.csv", float_format="%.4g", index=False)
    draw(numbers, exponents).savefig(folder / "learning_numbers.png", dpi=200)
    print(numbers.to_string(index=False, float_format="%.4g"))
    print(exponents.round(3).T.to_string())
    bounded = int(numbers["at most"].notna().sum())
    print(f"{bounded} of {len(numbers)} learning numbers are bounded from above")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown(HERE.name):
        main(chosen)
