# Every target does its own set-up: Python >= 3.11 and make are enough to begin with.

PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(BENCH_VENV)/.installed
REDIS5 := build/redis5
REDIS5_STAMP := $(REDIS5)/.installed
REDIS5_VERSION = $(shell sed -n 's/^redis==//p' requirements/redis5.txt)
PIP := -m pip --quiet --disable-pip-version-check
COVERED := src/remanence/policies/*,src/remanence/journal/*,src/remanence/record.py

DEMO_ARGS ?=
TEST_ARGS ?=
# The tests start servers and processes of their own, and wait for half of the time: two for each core of a small machine.
TEST_PROCESSES ?= 4
BENCH_ARGS ?=
SIMULATE_ARGS ?=
CHAOS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-redis5 check format simulate chaos bench cards lock clean

help: ## List the targets
	@echo 'Remanence: conversation memory that survives a Redis outage'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Options: PYTHON=python3.12  DEMO_ARGS="--outage freeze"  TEST_ARGS="-k breaker"  SIMULATE_ARGS=...  CHAOS_ARGS=...  BENCH_ARGS=...'

install: $(STAMP) ## Create .venv with the pinned development environment

demo: $(STAMP) ## Kill a real Redis server under real conversations and compare what is lost
	@$(BIN)/remanence demo --compare $(DEMO_ARGS)

# Coverage starts before pytest, so that the import of a pytest plugin of ours is measured too; children add files of
# their own, combined here. With TEST_ARGS a part of the tests runs, and the coverage bound says nothing.
test: $(STAMP) $(REDIS5_STAMP) ## Run the tests; policies, journal and record need 95 % branch coverage
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --numprocesses=$(TEST_PROCESSES) --dist=worksteal $(TEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@echo "== Branch coverage of everything: $$($(BIN)/coverage report --format=total) %"
ifeq ($(strip $(TEST_ARGS)),)
	@echo '== Branch coverage of policies, journal and record (at least 95 %)'
	@$(BIN)/coverage report --include='$(COVERED)' --fail-under=95
endif

test-redis5: $(STAMP) $(REDIS5_STAMP) ## Run the tests of the managers and of the framework with redis-py 5.3, which the framework pins
	@PYTHONPATH=$(CURDIR)/$(REDIS5) $(BIN)/python tests/redis5/smoke.py $(REDIS5_VERSION)
	@PYTHONPATH=$(CURDIR)/$(REDIS5) $(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=worksteal tests/managers tests/integrations $(TEST_ARGS)

check: $(STAMP) ## Format, lint, types and the import rule, without changing anything
	@echo '== Format'
	@$(BIN)/ruff format --check --quiet . || { echo 'Not formatted: run `make format`.' >&2; exit 1; }
	@echo '== Lint'
	@$(BIN)/ruff check --quiet .
	@echo '== Types (a minute the first time)'
	@$(BIN)/mypy src tests $(wildcard benchmarks)
	@echo '== Import rule'
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py

format: $(STAMP) ## Format and apply the safe lint fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

simulate: $(STAMP) ## Play every schedule of the small cases and more than a million random ones
	@$(BIN)/remanence simulate --asyncio 200000 $(SIMULATE_ARGS)

chaos: $(STAMP) ## Kill real workers and servers under a million writes, and audit what is left
	@$(BIN)/remanence chaos $(CHAOS_ARGS)

bench: $(BENCH_STAMP) ## Compare with the framework's own manager, in an environment of its own
	@$(BENCH_VENV)/bin/python -m benchmarks $(BENCH_ARGS)

cards: $(BENCH_STAMP) ## Try the conformance requirements on our managers and the framework's, and write docs/conformance.md
	@$(BENCH_VENV)/bin/python docs/conformance_cards.py

# One lock per environment, for every platform and Python from 3.11 on (--universal keeps the markers).
COMPILE := pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-emit-index-url \
	--no-emit-find-links --annotation-style=line

lock: $(STAMP) ## Pin the newest versions again (requirements/*.txt), with uv
	@$(BIN)/python $(PIP) install --upgrade --target build/uv uv
	@build/uv/bin/uv $(COMPILE) --extra arshai --extra cli --extra telemetry --extra testing -o requirements/dev.txt pyproject.toml requirements/dev.in
	@build/uv/bin/uv $(COMPILE) --extra arshai --extra server --extra telemetry -o requirements/bench.txt pyproject.toml requirements/bench.in

clean: ## Remove the environments, caches and reports
	rm -rf $(VENV) $(BENCH_VENV) .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist htmlcov reports remanence-report.html
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# $(call environment,folder,lock): an environment with what the lock pins, and this package in place. It is not emptied
# first, so that a changed pin costs seconds; `make clean` is for a fresh start or another PYTHON.
# --no-build-isolation: the build backend is pinned in the lock as well.
define environment
@command -v $(PYTHON) >/dev/null 2>&1 || \
	{ echo 'No $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12' >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is no Python 3.11 or newer ($$($(PYTHON) --version 2>/dev/null || echo it does not run)): name one that is: make PYTHON=/path/to/python3.12" >&2; exit 1; }
@echo '== Installing the pinned environment into $(1) (about half a minute, once)'
@$(PYTHON) -m venv $(1)
@$(1)/bin/python $(PIP) install -r $(2)
@$(1)/bin/python $(PIP) install --no-deps --no-build-isolation -e .
@touch $@
endef

$(STAMP): requirements/dev.txt pyproject.toml
	$(call environment,$(VENV),requirements/dev.txt)

# Beside the environment and without its dependencies, which the environment has.
$(REDIS5_STAMP): requirements/redis5.txt | $(STAMP)
	@rm -rf $(REDIS5)
	@$(BIN)/python $(PIP) install --no-deps --target $(REDIS5) -r requirements/redis5.txt
	@touch $@

$(BENCH_STAMP): requirements/bench.txt pyproject.toml
	$(call environment,$(BENCH_VENV),requirements/bench.txt)
