# make demo: train on the embedded digits; make test: all but the long faults; make test-faults: those. All of them
# work on a fresh machine with Python alone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-faults lint clean

demo: .venv/installed
	$(BIN)/equipoise train mnist --budget 5m

test: .venv/installed-dev lint
	$(BIN)/python -m pytest -n 2 -m "not faults"

test-fast: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 -m "not slow and not faults"

test-faults: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m faults --timeout 900

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@ .venv/installed

clean:
	rm -rf .venv
