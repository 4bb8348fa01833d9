# Works from any directory with `make -C`. Nothing has to be installed first but Python 3.11 or later.
PYTHON ?= python3
# The one package without a hash in the locks: which build of it is right (CPU, CUDA, ROCm) depends on the machine.
TORCH ?= torch==2.13.0
BIN := .venv/bin
# What `make test` runs; `make coverage` measures it.
TESTS ?= $(BIN)/python -m pytest
# What `make oldest` runs: the packages that meet the dependencies. Their own deprecations are no fault of convae.
OLDEST_TESTS ?= tests/core tests/data tests/pictures tests/model/test_artifact.py tests/testing \
	tests/cli tests/training/test_recipe.py tests/training/test_resume.py tests/test_package.py
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Packages as locked, each file checked against its SHA-256; then torch; then convae itself, built by the locked setuptools.
install = $(PIP) --require-hashes --no-deps -r $(1) && $(PIP) '$(TORCH)' && $(PIP) --no-deps --no-build-isolation -e .
COMPILE = $(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11.5 --generate-hashes \
	--no-emit-package torch --no-emit-package pip --custom-compile-command 'make lock'

.PHONY: help demo test explorer coverage lint docs examples bench export-table results results-quick models-index gpu format package audit oldest \
	lock clean
help:            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 15

# One stamp for users and one for developers: made again when the dependencies change, and only then.
.venv/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("convae needs Python 3.11 or later: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing convae into .venv (once) ..."
	@$(call install,requirements.lock)
	@touch $@

.venv/.developing: .venv/.installed requirements-dev.lock
	@echo "Installing the development tools into .venv (once) ..."
	@$(call install,requirements-dev.lock)
	@touch $@

.venv/.benching: .venv/.installed
	@echo "Installing the peers that convae is compared with into .venv (once) ..."
	@$(PIP) -e '.[bench]'
	@touch $@

demo: .venv/.installed   ## train on handwritten digits and show pictures (about two minutes)
	@$(BIN)/convae train demo

test: .venv/.developing  ## the whole test suite
	@$(TESTS)

explorer: .venv/.developing  ## test the explorer in Node and in Chromium, which have to be installed
	@$(PIP) -e '.[browser]'
	@$(BIN)/python -m pytest -n 0 -m browser tests/explorer

coverage: .venv/.developing  ## the whole test suite with branch coverage; fails below the floor in pyproject.toml
	@$(BIN)/coverage erase
	@$(MAKE) --no-print-directory test TESTS='$(BIN)/coverage run -m pytest'
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

lint: .venv/.developing  ## format, style, types, imports between packages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.developing  ## the pages in docs/_build/html, tables made from the code; a warning is a fault
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

results: .venv/.developing  ## estimate the likelihoods of docs/results.md that are missing (hours; it continues)
	@$(BIN)/python -m benchmarks.results likelihoods --work runs/likelihoods

results-quick: .venv/.developing  ## measure the models of digits again and compare with their intervals (seconds)
	@$(BIN)/python -m benchmarks.results quick

models-index: .venv/.developing  ## write the index of the pretrained models from models/
	@$(BIN)/python -m benchmarks.pretrained index

export-table: .venv/.developing  ## size and speed of the exported presets that benchmarks/exports.jsonl does not have yet (minutes)
	@$(BIN)/python -m benchmarks.exports

gpu: .venv/.developing  ## rehearse benchmarks/gpu.sh on the CPU with the smallest networks (about a minute)
	@PYTHON=$(BIN)/python benchmarks/gpu.sh --rehearse

package: .venv/.developing  ## build the wheel and the sdist into dist/, install the wheel elsewhere and use it
	@PYTHON=$(BIN)/python bash .ci/package.sh

audit: .venv/.developing  ## look for known vulnerabilities in the locked packages
	@$(BIN)/python .ci/audit.py requirements.lock requirements-dev.lock

oldest: .venv/.developing  ## test the oldest versions of the dependencies that pyproject.toml allows, in .venv-oldest
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-oldest.lock
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@.venv-oldest/bin/python -m pytest -W default $(OLDEST_TESTS)

lock: .venv/.developing  ## write the locks anew; UPGRADE=--upgrade takes the newest versions
	@$(PIP) uv
	@$(COMPILE) $(UPGRADE) pyproject.toml -o requirements.lock
	@$(COMPILE) $(UPGRADE) -c requirements.lock --extra dev --extra docs pyproject.toml -o requirements-dev.lock
	@$(COMPILE) --resolution lowest-direct --extra parquet --extra jpeg --extra hugging-face --extra umap --extra tensorboard --extra tiff \
		pyproject.toml .ci/oldest.in -o requirements-oldest.lock

format: .venv/.developing  ## rewrite the sources in the project's style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:           ## remove the environment and what the tools leave
	rm -rf .venv .venv-oldest .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* build dist docs/_build
