# `make demo` and `make test` work in a fresh clone: each makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# one thread a process: tests run side by side, and small models are slower on two
export OMP_NUM_THREADS ?= 1

.PHONY: demo test oldest lint docs bench bench-gpu evidence-photos clean

demo: .venv/.installed ## the whole recipe on the shipped pool, then a report
	$(BIN)/python -m presel_lightning fit --config quickstart.yaml

test: .venv/.installed-test ## every test and every example of a docstring; with CI=true nothing optional may lack
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=10 $(ARGS)

# by hand, before a release: a bound that is too low fails here and nowhere else
CORE := $(addprefix tests/,callbacks cli data export functional loading models recipe run selectors tasks)

oldest: .venv-oldest/.installed ## core tests on the lowest versions that pyproject.toml allows
	.venv-oldest/bin/python -m pytest -q -n 2 --dist worksteal -m "not slow" $(CORE) $(ARGS)

lint: .venv/.installed-test ## ruff, layers and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/.installed-test ## the pages and docstrings as a site in site/; a broken link to a heading fails
	$(BIN)/mkdocs build --strict --quiet -f .mkdocs.yml -d site

bench: .venv/.installed-test ## ratios against the authors' procedure, to bench.json
	rm -f bench.json
	for bench in selection irs features pool parity instructions web; do \
	  PYTHONPATH=. $(BIN)/python tests/bench/bench_$$bench.py --out bench.json $(ARGS) || exit 1; \
	done

bench-gpu: .venv/.installed-test ## tokens/s, samples/s and memory of a CUDA device, to bench_gpu.json
	PYTHONPATH=. $(BIN)/python tests/bench/bench_gpu.py $(ARGS)

# FOLDER=images, a folder a label, with CHECKPOINT=encoder (default: that of photos.yaml);
# or FEATURES=features.npz, or features.npy with LABELS=labels.txt
evidence-photos: .venv/.installed-test ## which selection pays on your labeled images: a table with intervals
	$(BIN)/python -m presel_lightning probe $(if $(FEATURES),--features $(FEATURES),--data.annotations \
	  $(or $(FOLDER),$(error give FOLDER=images, a folder a label, or FEATURES=features.npz))) \
	  $(if $(LABELS),--labels $(LABELS)) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(ARGS)

clean: ## remove the environment and what tools left
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

# torch is named in the command so that every dependency takes the pinned build
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e ".[photos]"
	touch $@

# lmms-eval and Label Studio's SDK with no more than the tests need. The rest of lmms-eval's
# dependencies (0.6 GB) is for built-in tasks, and one is torchvision; the SDK cannot be installed
# beside the pins (docs/decisions.md).
LMMS := evaluate loguru python-dotenv pytz sacrebleu tenacity
LABEL_STUDIO := appdirs jsf jsonschema pyjwt xmljson

# the browser tests need Chromium; root may install Debian's package, anybody else is told its name
CHROMIUM := command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
  { [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; }

.venv/.installed-test: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e ".[test,deepspeed]" $(LMMS) $(LABEL_STUDIO)
	$(INSTALL) --no-deps lmms_eval label-studio-sdk
	@$(CHROMIUM) || echo "no Chromium (Debian: apt-get install chromium): no browser tests, and in CI they fail"
	touch $@ .venv/.installed

.venv-oldest/.installed: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) tests/oldest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -c .venv-oldest/constraints.txt \
	  torch==2.13.0 -e ".[test]"
	touch $@
