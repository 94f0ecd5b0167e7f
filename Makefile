# Both commands set everything up on a fresh machine: Python 3.11+, make and the package registry are enough.
PYTHON ?= python3
BIN := .venv/bin
# The demo takes the real data set where it is at hand, and otherwise the digits that come with scikit-learn.
DATA ?= $(if $(and $(QUADRATE_DATA),$(wildcard $(QUADRATE_DATA)/mnist)),mnist,digits)

.PHONY: demo quick test lint types clean

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

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv
