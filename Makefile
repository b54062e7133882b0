# make install | reproduce | test | quick | lab | docs | lint | bench     (PROFILE=mini, PYTHON=python3)
# make reproduce PROFILE=overnight decides what mini is too small for, in some hours.
# Each makes .venv itself when it is missing or when pyproject.toml or constraints.txt changed; what only tests,
# documentation and linting need comes with the first of these.

PYTHON ?= python3
PROFILE ?= mini
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# Modules are compiled when they are first used: quicker than compiling all that is installed.
export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PHONY: install reproduce test quick lab docs lint bench

install: $(STAMP)

reproduce: $(STAMP)
	$(BIN)/sd4match reproduce --profile $(PROFILE)

# All cores share the test files, the longest first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

# What needs no browser, no kernel and no training.
quick: $(DEV)
	$(PYTEST) -m "not slow"

# MiniPair is rendered while JupyterLab starts.
lab: $(STAMP)
	$(BIN)/sd4match miniature render > /dev/null & $(BIN)/jupyter-lab notebooks/00_start_here.ipynb

docs: $(DEV)
	$(BIN)/sphinx-build -W --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

# make bench keeps a table and a figure over versions in benchmarks/results; COMPARE=benchmarks/results/FILE.json says
# what got slower than its last run; BENCH="--shapes sd21 --side 256" are SD2-1's shapes, --fast the compiled UNet.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.bench $(if $(COMPARE),--compare $(COMPARE)) $(BENCH)

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5) and "sd4match needs Python 3.11.5 or newer; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(DEV): $(STAMP)
	$(PIP) -e '.[dev]'
	touch $@
