# Two commands matter: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test lint unit chaos bench docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make .venv with singd, every plugin and the tools, from the one lock

$(STAMP): requirements/workspace.lock pyproject.toml $(PLUGINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "singd needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/workspace.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . $(foreach p,$(PLUGINS),--editable $(dir $(p)))
	@touch $@

run: $(STAMP) ## start the daemon on config/singd.toml with its own Postgres; Ctrl-C ends it
	@exec $(BIN)/singd run --config config/singd.toml

test: lint unit ## types, lint, import contract, then every test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup $(LESS)

SEED ?= 1
FAULTS ?= 2000
MINUTES ?= 120
DAYS ?= 1000
chaos: $(STAMP) ## real faults on three real daemons: SEED=, FAULTS=, MINUTES=; DAYS= simulated; then every planted bug
	$(BIN)/python tests/chaos/run.py --seed $(SEED) --faults $(FAULTS) --minutes $(MINUTES)
	$(BIN)/pytest -n 0 -q tests/simulation/test_cluster.py -k asked_for --sim-days $(DAYS) --sim-seed $(SEED)000
	SINGD_PLANTED=all $(BIN)/pytest -n 0 -q tests/chaos/test_planted_bugs.py

bench: $(STAMP) ## the figures of docs/benchmarks.md, one JSON line each
	$(BIN)/python tests/bench/run.py

docs: $(STAMP) ## the generated parts of docs/configuration.md and docs/cli.md, from the code
	$(BIN)/python docs/generate.py

lock: ## resolve requirements/workspace.in into the lock again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header requirements/workspace.in -o requirements/workspace.lock

clean: ## remove what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
