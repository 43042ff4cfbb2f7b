# Everything people type. `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/runtime.stamp
DEV := .venv/dev.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
COMPILE := $(BIN)/uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header --quiet

# Most tests of real processes wait, so three of them at once suit two processors. A file's tests stay together, because
# they share servers.
SIDE_BY_SIDE := -n 3 --dist loadfile

# Without sources of their own, people meet Verisink beside its simulator.
OWN := $(strip $(wildcard verisink.toml) $(VERISINK_CONFIG) $(filter VERISINK_SOURCES__%,$(.VARIABLES)))
SIMULATED := .verisink/verisink.toml

.DEFAULT_GOAL := help
.PHONY: help demo up simulate test chaos bench docs check fix lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(RUNTIME)  ## the main job, end to end, against the simulator; leaves nothing behind
	@$(BIN)/verisink demo

up: $(RUNTIME) $(if $(OWN),,$(SIMULATED))  ## receiver, worker and API; yours if configured, else for the simulator
	@$(if $(OWN),,VERISINK_CONFIG=$(SIMULATED)) $(BIN)/verisink up

simulate: $(SIMULATED)  ## the four providers, beside `make up`
	@$(BIN)/verisink simulate --settings .verisink

test: $(DEV)  ## every test, on real services; ARGS="-k name" for some of them
	@$(BIN)/pytest $(or $(ARGS),$(SIDE_BY_SIDE))

chaos: $(DEV)  ## break everything, for long, and check that nothing is lost; ARGS="--short" for a minute of it
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(DEV)  ## Verisink beside what it is compared with, measured here and now; ARGS="--quick" to see that it works
	@$(BIN)/python -m bench $(ARGS)

docs: $(RUNTIME)  ## write the pages that are made from the code
	@$(BIN)/verisink schema --write docs/results-database.md
	@$(BIN)/verisink schema --dbt --write examples/dbt/models/sources.yml

check: $(DEV)  ## format, lint, types, import contracts, house rules
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -q tests/rules

fix: $(DEV)  ## format, and repair what lint can repair
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: $(DEV)  ## the newest versions that pyproject.toml allows; UPGRADE="--upgrade-package name" for one of them
	@$(COMPILE) $(or $(UPGRADE),--upgrade) --output-file requirements.lock
	@$(COMPILE) $(or $(UPGRADE),--upgrade) --group dev --extra otel --constraints requirements.lock --output-file requirements-dev.lock

clean:  ## remove what the other targets made
	rm -rf .venv .verisink .coverage* htmlcov build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SIMULATED): | $(RUNTIME)
	@$(BIN)/verisink simulate --write-settings .verisink

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Verisink needs Python 3.11 or newer, and $(PYTHON) is not. Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(RUNTIME): requirements.lock pyproject.toml | .venv/pyvenv.cfg
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-build-isolation --no-deps --editable . && touch $@

$(DEV): requirements-dev.lock pyproject.toml | .venv/pyvenv.cfg
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-build-isolation --no-deps --editable . && touch $@ $(RUNTIME)
