"""What the decisions of a sequential design cost beside its flows, of which none is computed.

    python benchmarks/sequential.py                    # 20 variants, 10 sizes, up to 200 seeds
    python benchmarks/sequential.py --variants 4 --seeds 50

Cells are copies of one small run that meet the loss by a coin, written as workers would write them.
CPU seconds of this process: reading cells as they are finished, which workers do not wait for, and
the looks, for which they wait. Shares are those of flows that take 45 ms each, on two workers.
"""

import argparse
import dataclasses
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np
import store as store_benchmark
import xarray

from flowlift import studies, sweep
from flowlift.store import Rates, cells
from flowlift.studies import grid
from flowlift.sweep import sequential

_SIZES = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
_FLOW, _WORKERS, _LOSS = 0.045, 2, 0.2
# Of sizes where 50 % of the lifts learn, about 200 seeds are needed for this.
_HALF_WIDTH = 0.07


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=200)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        one = store_benchmark.one_run(folder / "one")
        study = _study(folder, given.variants)
        clock = _Clock(one)
        began = time.process_time()
        spent = clock.watching(
            lambda: sweep.run_until(
                study,
                folder / "results",
                half_width=_HALF_WIDTH,
                budget_runs=given.variants * len(_SIZES) * given.seeds,
                progress=False,
            )
        )
        whole = time.process_time() - began
    flows = spent.runs * _FLOW
    waited = clock.looks
    print(
        f"{spent.runs} runs in {clock.computed} cells and {clock.rounds} looks, {whole:.1f} s CPU"
    )
    print(f"reading as cells finish: {clock.read:.2f} s, {100 * clock.read / flows:.2f} % of flows")
    print(f"looks, workers waiting:  {waited:.2f} s, {100 * waited * _WORKERS / flows:.2f} %")


def _study(folder: Path, variants: int) -> studies.Study:
    file = folder / "study.toml"
    file.write_text(store_benchmark.STUDY.replace("losses = [0.2, 0.05]", f"losses = [{_LOSS}]"))
    study = studies.read_study(file, [f"lift.sizes={_SIZES}", "seeds=8", "chunk=8"])
    rtols = tuple(1e-6 * 2.0**-i for i in range(variants))
    return dataclasses.replace(study, vary={"flow.rtol": rtols})


class _Clock:
    """Stands for the workers, and measures what is done beside them."""

    def __init__(self, one: xarray.Dataset):
        self.read = self.looks = 0.0
        self.computed = self.rounds = 0
        self._inside = 0.0
        self._one, self._draw = one, np.random.default_rng(0)

    def watching(self, design: Callable):
        """Run a design without flows."""
        take = sequential._Looks.take

        def timed(looks, more):
            before, inside = time.process_time(), self._inside
            take(looks, more)
            self.looks += time.process_time() - before - (self._inside - inside)
            self.rounds += 1

        sequential._Looks.take = timed
        sequential.complete_study = lambda study, directory, **_: cells.write_study(
            study, directory
        )
        sequential.run_cells = self._run_cells
        sequential.load = lambda *_: None
        return design()

    def _run_cells(self, study, missing, directory, rates, *, on_cell, **_) -> Rates:
        began = time.process_time()
        for cell in missing:
            cells.write_cell(self._made_up(cell), cell, directory)
            before = time.process_time()
            on_cell(cell)
            self.read += time.process_time() - before
        self.computed += len(missing)
        self._inside += time.process_time() - began
        return rates

    def _made_up(self, cell: grid.Cell) -> xarray.Dataset:
        data = self._one.isel(seed=np.zeros(len(cell.seeds), int))
        met = self._draw.uniform(size=(1, len(cell.seeds))) < cell.size / (cell.size + 64)
        factor = np.where(met, 1e-6, 1e6)
        data["run"] = (("size", "seed"), np.array([cell.runs]), self._one["run"].attrs)
        data["loss"], data["final_loss"] = (
            data["loss"] * factor[..., None],
            data["final_loss"] * factor,
        )
        seeds, sizes = ("seed", list(cell.seeds)), ("size", [cell.size])
        return data.assign_coords(seed=seeds, size=sizes)


if __name__ == "__main__":
    main()
