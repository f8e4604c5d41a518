# make demo      train, check and report on the example table
# make test      what every change must pass
# make test-all  the slow tests as well
# make format    lay the code out
# make clean     what the above made, .venv included

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
# The first Python that is new enough; it is named differently from machine to machine.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(READY)

# Rebuilt only when what is to be installed changes.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; TensorFlow is large) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		-c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	@rm -rf $(DEMO)
	@$(BIN)/python -m kerastrain train examples/data/housing.csv \
		--target median_house_value --quality fast --out $(DEMO)
	@echo "Open $(CURDIR)/$(DEMO)/report.html in a browser."

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two processes: each test file with TensorFlow takes 6 s to start and then one core.
test: check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-all: check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

format: $(READY)
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
