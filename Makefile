# make demo   sets everything up and trains a tiny TubeViT; `make demo DATA=folder` does it on your own videos
# make test   sets everything up and runs the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DATA ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint typecheck clean

help:
	@echo "make demo               train a tiny TubeViT on moving shapes: 3 minutes on 2 cores, writes demo/report.png"
	@echo "make demo DATA=folder   the same on your videos, in folder/<class>/ or in folder/train|val/<class>/"
	@echo "make test               run the tests"
	@echo "make lint               check style and format"
	@echo "make typecheck          check the types of modeling_tubevit/ and processing/ with mypy"
	@echo "make clean              remove the environment, the demo and caches"
	@echo "The first of them also makes the environment $(VENV) (PYTHON=$(PYTHON), 3.10 or newer)."

demo: $(READY)
	@$(BIN)/tubevit demo $(if $(DATA),--data "$(DATA)")

# The tests need no network: with these set, a test that reaches for the Hub fails instead of waiting.
test: $(READY)
	HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# One run per folder: each is a package of its own to mypy, and the two do not import each other.
typecheck: $(READY)
	$(BIN)/python -m mypy modeling_tubevit
	$(BIN)/python -m mypy processing

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is made last, so that an installation that broke off is done again.
$(READY): pyproject.toml
	@echo "Setting up $(VENV) with $(PYTHON): once, about 3 minutes; PyTorch alone is a download of some 3 to 5 GB."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than Python 3.10; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip --quiet --disable-pip-version-check
	$(BIN)/python -m pip install --editable ".[dev]" --disable-pip-version-check
	@touch $@
