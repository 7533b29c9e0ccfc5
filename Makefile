# make demo   sets everything up and trains a tiny TubeViT; `make demo DATA=folder` does it on your own videos
# make test   sets everything up and runs the tests
# make test-matrix   runs the tests on the oldest and the newest supported versions, each in an environment of its own

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DATA ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-matrix fuzz bench-data bench-gpu lint typecheck docs recipes release-check clean FORCE

help:
	@echo "make demo               train a tiny TubeViT on moving shapes: 5 minutes on 2 idle cores, writes demo/report.png"
	@echo "make demo DATA=folder   the same on your videos, in folder/<class>/ or in folder/train|val/<class>/"
	@echo "make test               run the tests"
	@echo "make test-matrix        run the tests on the oldest and the newest versions of the dependencies, and on a pre-release of"
	@echo "                        Transformers if there is one: environments .venv-oldest, .venv-newest, .venv-pre, 7 GB each"
	@echo "make fuzz               decode randomly damaged videos for 10 minutes (make fuzz SECONDS=60 SEED=1); keeps the files that fail"
	@echo "make bench-data         measure the start of runs on 240,000 videos, and the memory of a loader worker over 5,000 clips: 20 minutes"
	@echo "make bench-gpu          measure training, memory and inference of TubeViT-B on a GPU: 10 minutes; writes bench-gpu.json"
	@echo "make lint               check style and format"
	@echo "make typecheck          check the types of modeling_tubevit/ and processing/ with mypy"
	@echo "make docs               build the documentation, site/index.html; a warning of Sphinx is an error"
	@echo "make recipes            write the recipes of the published UniFormerV2 and ViViT models from their tables"
	@echo "make release-check      build wheel and sdist, check them with twine, and run tubevit demo --quick from the wheel in a new environment"
	@echo "make clean              remove the environment, the demo and caches"
	@echo "The first of them also makes the environment $(VENV) (PYTHON=$(PYTHON), 3.11 or newer)."

demo: $(READY)
	@$(BIN)/tubevit demo $(if $(DATA),--data "$(DATA)")

# The tests need no network: with these set, a test that reaches for the Hub fails instead of waiting. "worksteal" halves the list of
# tests and moves tests to a worker that has none left, so that no worker waits for a long file, and few module fixtures are made twice.
test: $(READY)
	HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# FILE=NUMBER_NAME repeats one file of a failure.
SECONDS ?= 600
SEED ?= 0
FILE ?=
fuzz: $(READY)
	FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) FUZZ_FILE=$(FILE) FUZZ_FOLDER=fuzz_failures \
		$(BIN)/python -m pytest -q -p no:cacheprovider tests/processing/test_damage.py -k random

# The oldest versions are the lower bounds in pyproject.toml; of everything else pip takes the newest. A failure in one environment
# does not keep the others from being tested.
test-matrix: .venv-oldest/.installed .venv-newest/.installed .venv-pre/.installed
	@status=0; \
	for name in oldest newest pre; do \
		test -s .venv-$$name/.installed || { echo "Skipping .venv-$$name: nothing newer to test."; continue; }; \
		echo "Testing on $$(cat .venv-$$name/.installed)"; \
		HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 \
			.venv-$$name/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS) || status=1; \
	done; \
	exit $$status

VERSIONS = python -c 'import torch, transformers; print("Transformers", transformers.__version__, "and torch", torch.__version__)'

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-oldest
	sed -n 's/^    "\([a-z0-9_-]*\)>=\([0-9.]*\)",$$/\1==\2/p' pyproject.toml > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --constraint .venv-oldest/constraints.txt --editable ".[dev]"
	.venv-oldest/bin/$(VERSIONS) > $@

# Runs every time, because the registry may have newer versions; the stamp changes only when the versions do.
.venv-newest/.installed: pyproject.toml FORCE
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --upgrade --upgrade-strategy eager --editable ".[dev]"
	.venv-newest/bin/$(VERSIONS) > .venv-newest/.versions
	cmp -s .venv-newest/.versions $@ || cp .venv-newest/.versions $@

# The stamp stays empty, and the tests are skipped, if the registry has no pre-release newer than the newest release.
.venv-pre/.installed: .venv-newest/.installed
	$(PYTHON) -m venv --clear .venv-pre
	@if .venv-newest/bin/python -m pip install --dry-run --pre --upgrade --no-deps transformers | grep "Would install"; then \
		.venv-pre/bin/python -m pip install --editable ".[dev]" && \
		.venv-pre/bin/python -m pip install --pre --upgrade transformers && \
		.venv-pre/bin/$(VERSIONS) > $@; \
	else \
		echo "There is no pre-release of Transformers newer than the newest release." && touch $@; \
	fi

FORCE:

# VIDEOS=1000 CLIPS=50 for a short try.
VIDEOS ?= 240000
CLIPS ?= 5000
bench-data: $(READY)
	$(BIN)/tubevit bench --data-scale --data-videos $(VIDEOS)
	$(BIN)/tubevit bench --loader --loader-clips $(CLIPS) --loader-workers 1 --rounds 1 --preset tiny

# GPU_ARGS="--preset large --batch-sizes 4 8" for other sizes.
GPU_ARGS ?=
bench-gpu: $(READY)
	$(BIN)/python -m tubevit.training.benchmarks.gpu $(GPU_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# One run per folder: each is a package of its own to mypy, and the two do not import each other.
typecheck: $(READY)
	$(BIN)/python -m mypy modeling_tubevit
	$(BIN)/python -m mypy processing

docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs site
	@echo "Wrote site/index.html."

recipes: $(READY)
	$(BIN)/python -m tubevit.training.published_recipes

# The demo runs outside of the checkout, so that it finds the installed package only. PIP_ARGS for a new environment, for example an
# index of PyTorch's builds for CPUs.
PIP_ARGS ?=
release-check:
	rm -rf dist .venv-release
	$(PYTHON) -m venv .venv-release/tools
	.venv-release/tools/bin/python -m pip install --quiet build twine
	.venv-release/tools/bin/python -m build --outdir dist
	.venv-release/tools/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv-release/app
	.venv-release/app/bin/python -m pip install --quiet $(PIP_ARGS) dist/*.whl
	cd .venv-release/app && bin/tubevit --version && bin/tubevit demo --quick

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-pre .venv-release demo fuzz_failures site build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is made last, so that an installation that broke off is done again.
$(READY): pyproject.toml
	@echo "Setting up $(VENV) with $(PYTHON): once, about 3 minutes; PyTorch alone is a download of some 3 to 5 GB."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip --quiet --disable-pip-version-check
	$(BIN)/python -m pip install --editable ".[dev]" --disable-pip-version-check
	@touch $@
