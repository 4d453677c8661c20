# make demo: train on the embedded digits; make test: everything; both work on a fresh machine with Python alone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast lint clean

demo: .venv/installed
	$(BIN)/equipoise train mnist --budget 5m

test: .venv/installed-dev lint
	$(BIN)/python -m pytest -n 2

test-fast: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

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
