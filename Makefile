# The newcomer's way in: `make serve`, `make test`. PYTHON=… picks another interpreter.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install serve test lint format bench bench-plain clean

help:  ## Show the targets
	@echo "Usage: make TARGET [ARGS=\"…\"]"
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 15

install: $(INSTALLED)  ## Create .venv and install Stride with its tools

serve: $(INSTALLED)  ## Serve the default model; ARGS="--port 9000" passes options
	@$(VENV)/bin/stride serve $(ARGS)

test: lint  ## Check style and types, run all tests; ARGS="-k cache" passes options to pytest
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(INSTALLED)  ## Check style, formatting and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(INSTALLED)  ## Fix style and formatting
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(INSTALLED)  ## Measure Stride and other servers side by side; ARGS="--short" within five minutes
	@$(VENV)/bin/stride bench $(ARGS)

bench-plain: $(INSTALLED)  ## Measure plain decoding against other engines; ARGS="--write" keeps the results
	$(VENV)/bin/python -m benchmarks.plain $(ARGS)

clean:  ## Remove .venv and what tools leave behind
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The stamp is written last, so an interrupted installation starts over.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Stride needs Python 3.11 or later; try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --editable ".[dev]"
	@touch $@
