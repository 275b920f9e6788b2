# The project's commands. GNU make 3.81 or newer (macOS has that one) and python3 >= 3.11 are all they need;
# the contract tests also want node and npm.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROJECT := $(CURDIR)

# A run that may not cache bytecode pays seconds for every import of a large library.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED = 1

PACKAGES := kit edge orchestrator knowledge memory integration control deploy
PYTEST := $(BIN)/pytest -q

.PHONY: help setup setup-dev codegen-tools client-tools run test test-full lint format gen baseline bench lock requirements clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Set up what is missing and serve everything on 127.0.0.1:8080
	@exec $(BIN)/fastchat up

test: setup-dev client-tools codegen-tools ## Unit and contract tests and the end-to-end smoke, in minutes
	$(PYTEST) -m "not full" tests

test-full: setup-dev client-tools codegen-tools ## The long suites: conformance, chaos, the six processes
	$(PYTEST) -m full tests

lint: setup-dev codegen-tools ## Every static check
	$(BIN)/python -m deploy.checks

format: setup-dev ## Rewrite sources the way lint wants them
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format . && $(BIN)/buf format -w

gen: setup-dev codegen-tools ## Regenerate gen/ from proto/
	$(BIN)/python -m deploy.codegen

baseline: setup-dev ## At a release: freeze its contracts, which the next one must keep serving
	$(BIN)/buf breaking --against proto/baseline.binpb
	$(BIN)/buf build -o proto/baseline.binpb

bench: setup-dev ## Measure against a mock upstream, beside the alternatives
	$(BIN)/python -m tests.bench $(BENCH)

requirements: setup-dev ## Rewrite docs/requirements.md from the marks of the tests
	$(BIN)/python -m deploy.checks --write-requirements

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

lock: $(VENV)/.uv ## Resolve the dependencies anew into the lock files
	$(COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(COMPILE) --upgrade pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

setup: $(VENV)/.run ## Install what running needs

setup-dev: $(VENV)/.dev ## Install what developing needs

codegen-tools: deploy/codegen/node_modules/.stamp ## Install the TypeScript generator

client-tools: tests/clients/node_modules/.stamp ## Install the JavaScript clients that tests drive

%/node_modules/.stamp: %/package-lock.json
	@cd $* && npm ci --silent
	@touch $@

clean: ## Remove what was installed and generated caches (not the state)
	rm -rf $(VENV) deploy/codegen/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# uv is fetched once by the environment's own pip, with hashes, and does the rest.
$(VENV)/.uv: requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 >= 3.11 is needed; set PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

$(VENV)/.run: $(VENV)/.uv requirements.lock pyproject.toml
	@echo "Installing the locked dependencies"
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@
