# Both commands set everything up on a fresh machine: Python 3.11+, make and the package registry are enough.
PYTHON ?= python3
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
# The demo takes the real data set where it is at hand, and otherwise the digits that come with scikit-learn.
DATA ?= $(if $(and $(QUADRATE_DATA),$(wildcard $(QUADRATE_DATA)/mnist)),mnist,digits)

.PHONY: demo quick test lint types docs wheel clean

demo: .venv/installed
	$(BIN)/quadrate demo --data $(DATA) --overwrite

# What contributors run first: under two minutes on two cores, and something of every part.
quick: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow" @tests/quick.txt

# A process a core; the tests of a file stay together, since they share what is slow to make.
test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/installed
	$(BIN)/mypy

# The documentation as a site of its own in site/, without the network; warnings are errors.
docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The package as it is published, checked, and tried in an empty environment and an empty folder.
wheel:
	rm -rf dist .venv-build .venv-wheel
	$(PYTHON) -m venv .venv-build
	.venv-build/$(SCRIPTS)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt build twine
	.venv-build/$(SCRIPTS)/python -m build --outdir dist
	.venv-build/$(SCRIPTS)/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/$(SCRIPTS)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	.venv-wheel/$(SCRIPTS)/python tests/try_wheel.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv .venv-build .venv-wheel dist site
