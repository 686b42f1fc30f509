# Every target makes its own environment in .venv; .ci/setup does nothing when it is there and whole.
# PYTHON=/path/to/python3.12 chooses the interpreter that .venv is made with.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export PYTHON

BIN := .venv/bin
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: help setup demo test test-torch lint format bench bench-vectors docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything for development
	@.ci/setup test lint docs
	@echo "The environment is ready in .venv"

demo: ## Run the main job on the embedded stores: signup, ingestion, search
	@.ci/setup
	@$(BIN)/manystore demo

test: ## Run the tests
	@.ci/setup test
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-torch: ## Run the tests of models that need PyTorch (200 MB; the CPU's build)
	@VENV=.venv-torch PIP_CONSTRAINT=.ci/torch.txt PIP_EXTRA_INDEX_URL=$(TORCH_INDEX) PIP_RETRIES=1 .ci/setup torch
	@.venv-torch/bin/python -m pytest --confcutdir=tests/torch tests/torch

lint: ## Check style and types
	@.ci/setup test lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy src tests

format: ## Rewrite the code in the project's style
	@.ci/setup lint
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: ## Measure against the bare drivers and other layers; ARGS=--quick takes a minute
	@VENV=.venv-bench .ci/setup bench
	@.venv-bench/bin/python -m benchmarks.records $(ARGS)

bench-vectors: ## Measure vector stores against bare engines and LangChain's stores; ARGS="pgvector --number 5000"
	@VENV=.venv-bench .ci/setup bench
	@VENV=.venv-langchain-postgres .ci/setup bench-langchain-postgres
	@.venv-bench/bin/python -m benchmarks.vectors $(ARGS)

docs: ## Build the documentation in site/
	@.ci/setup docs
	@$(BIN)/python docs/generate_configuration.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html"

clean: ## Remove what the targets made: environments, caches, site
	@rm -rf .venv .venv-bench .venv-langchain-postgres .venv-torch .mypy_cache .pytest_cache .ruff_cache .hypothesis dist site
	@find src tests docs benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
