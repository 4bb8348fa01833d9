# Works from any directory with `make -C`. Nothing has to be installed first but Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint docs examples bench format clean
help:            ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

# One stamp for users and one for developers: made again when the dependencies change, and only then.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("convae needs Python 3.11 or later: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing convae into .venv (once) ..."
	@$(PIP) -e .
	@touch $@

.venv/.developing: .venv/.installed
	@echo "Installing the development tools into .venv (once) ..."
	@$(PIP) -e '.[dev]'
	@touch $@

.venv/.documenting: .venv/.installed
	@echo "Installing Sphinx into .venv (once) ..."
	@$(PIP) -e '.[docs]'
	@touch $@

.venv/.benching: .venv/.installed
	@echo "Installing the peers that convae is compared with into .venv (once) ..."
	@$(PIP) -e '.[bench]'
	@touch $@

demo: .venv/.installed   ## train on handwritten digits and show pictures (about two minutes)
	@$(BIN)/convae train recipes/demo.yaml

test: .venv/.developing  ## the whole test suite
	@$(BIN)/python -m pytest

lint: .venv/.developing  ## format, style, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.documenting ## the pages in docs/_build/html, tables made from the code; a warning is a fault
	@rm -rf docs/_build
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

examples: .venv/.developing ## run the notebooks; what they give goes to docs/_build/examples
	@mkdir -p docs/_build/examples
	@for name in examples/*.ipynb; do \
		$(BIN)/jupyter-execute "$$name" --output="$(CURDIR)/docs/_build/$$name" || exit 1; \
	done

bench: .venv/.benching   ## training steps per second against the peers; write the table to benchmarks/training.md
	@$(BIN)/python -m benchmarks.training --out benchmarks/training.md

format: .venv/.developing  ## rewrite the sources in the project's style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:           ## remove the environment and what the tools leave
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist docs/_build
