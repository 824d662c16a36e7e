# Every command of the project. `make help` lists them. Nothing but Python 3.11+ is needed beforehand.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
JOBS ?= auto
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: help setup test campaign fuzz lint types format check demo serve bench lock guests docs schema-export docker-check clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything in it, .venv/bin/migsvc included

# The lock files carry hashes and name no host; the build back end is in the lock, so no isolated build is needed.
$(STAMP): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test: setup ## Run the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q

campaign: setup ## Run the long campaigns that the default suite leaves out
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m campaign --timeout 3600

fuzz: setup ## Fuzz every decoder with coverage guidance (ARGS="--seconds 600 stream paths")
	$(BIN)/python tests/fuzz/campaign.py $(ARGS)

lint: setup ## Lint, check formatting and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup ## Check types (mypy --strict)
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test ## Everything that CI runs

demo: setup ## Two hosts on loopback, one VM migrated back and forth in SMM and in shadows
	$(BIN)/migsvc demo

serve: setup ## Run one host agent on loopback (ARGS="--port 7701 --data-dir DIR")
	$(BIN)/migsvc serve $(ARGS)

bench: setup ## Print the figures: emulator, state codec, migration beside a plain copy
	$(BIN)/python -m benchmarks

docker-check: setup ## Check docker/ without an engine: lint the Dockerfile, validate the compose file
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/docker-compose -f docker/compose.yaml config --quiet

guests: setup ## Rebuild the bundled guests from source (needs GNU binutils)
	$(BIN)/python -m emulator.guests.build

docs: setup ## Regenerate the tables in FORMAT.md and PROTOCOL.md
	$(BIN)/python -m migsvc.stream.docs --write
	$(BIN)/python -m migsvc.protocol.docs --write

schema-export: setup ## Renew the kept export of the present schema version
	$(BIN)/python -m migsvc.schema_exports --write

lock: setup ## Renew the lock files (needs uv)
	@command -v uv >/dev/null || { echo "uv is needed to renew the locks: pip install uv" >&2; exit 1; }
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -o requirements-dev.lock
	$(LOCK) --group build -o requirements-build.lock

clean: ## Remove .venv, caches and build results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
