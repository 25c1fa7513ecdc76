# Two commands on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
# The first interpreter that runs and is new enough: a name on the path may be an empty shim.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Two processes with a BLAS thread pool each slow one another down thirtyfold.
export OPENBLAS_NUM_THREADS = 1

.PHONY: demo studies-quick test test-default-xla test-slow test-gpu fuzz lint docs bench bench-gpu clean

demo: .venv/.data
	$(BIN)/flowlift run studies/01_digits/study.toml --output results/01_digits
	$(BIN)/flowlift plot results/01_digits

# Each under a minute; without `--quick` the grids of the figures beside them, a few minutes each.
studies-quick: .venv/.data
	for study in 03_tangent_radius 04_coverage 05_certificate 06_lazy_or_not; do \
		$(BIN)/python studies/$$study/run.py --quick --figures results/$$study/figures || exit 1; \
	done

# A file is one worker's: what its tests share is made once. tests/conftest.py puts long files first.
SHARED := -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/.test
	$(BIN)/pytest $(SHARED)

# XLA as users have it, on the tests of the flow itself.
test-default-xla: .venv/.test
	FLOWLIFT_TEST_XLA=default $(BIN)/pytest $(SHARED) tests/flow/test_flow.py tests/lift/test_lift.py

test-slow: .venv/.test
	$(BIN)/pytest $(SHARED) -m "slow and not gpu"

test-gpu: .venv/.test
	$(BIN)/python -m tests.gpu

# Random flows, checked: `make fuzz SECONDS=3600 SEED=7`; a failure prints what repeats it.
SECONDS ?= 600
SEED ?= 0
fuzz: .venv/.test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# The whole grids take hours: `python benchmarks/kernels.py`, `--help` for their choices.
bench: .venv/.test
	$(BIN)/python benchmarks/kernels.py --n 512 2048 --k 8 --samples 256
	$(BIN)/python benchmarks/solvers.py
	$(BIN)/python benchmarks/sweep.py

# For whoever has a GPU: 12 minutes at most, parts written as they end. `ARGS=--small` on a CPU.
bench-gpu: .venv/.test
	$(BIN)/python benchmarks/gpu.py $(ARGS)

clean:
	rm -rf .venv results docs/_build docs/auto_gallery docs/studies docs/jupyter_execute

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

# One stamp per extra: installed once, and again when the dependencies change.
.venv/.%: pyproject.toml | .venv/.made
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
