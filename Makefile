# `make demo` and `make test` work in a fresh clone: each makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# one thread a process: tests run side by side, and small models are slower on two
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint bench bench-gpu clean

demo: .venv/.installed ## the whole recipe on the shipped pool, then a report
	$(BIN)/python -m presel_lightning fit --config quickstart.yaml

test: .venv/.installed-test ## every test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

lint: .venv/.installed-test ## ruff, layers and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: .venv/.installed-test ## ratios against the authors' procedure, to bench.json
	rm -f bench.json
	for bench in selection irs features pool; do \
	  PYTHONPATH=. $(BIN)/python tests/bench/bench_$$bench.py --out bench.json $(ARGS) || exit 1; \
	done

bench-gpu: .venv/.installed-test ## tokens/s, samples/s and memory of a CUDA device, to bench_gpu.json
	PYTHONPATH=. $(BIN)/python tests/bench/bench_gpu.py $(ARGS)

clean: ## remove the environment and what tools left
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

# torch is named in the command so that every dependency takes the pinned build
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e .
	touch $@

# lmms-eval with no more than local tasks need: the rest of its dependencies (0.6 GB) is for built-in
# tasks, and one is torchvision. Where it cannot be installed, its tests are skipped.
LMMS := evaluate loguru python-dotenv pytz sacrebleu tenacity

# the browser tests need Chromium; root may install Debian's package, anybody else is told its name
CHROMIUM := command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
  { [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; }

.venv/.installed-test: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e ".[test]"
	-$(INSTALL) $(LMMS) && $(INSTALL) --no-deps lmms_eval
	@$(CHROMIUM) || echo "no Chromium (Debian: apt-get install chromium): the browser tests are skipped"
	touch $@ .venv/.installed
