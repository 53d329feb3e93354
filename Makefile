# Every target does all of its own set-up. `make help` lists them.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test quick test-odd-role test-pgbouncer test-matrix contract bugs check fmt bench docs screenshots lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Start everything on an embedded PostgreSQL and show it working
	$(BIN)/python -m examples.demo $(ARGS)

test: $(READY) ## Run the tests, on all cores (ARGS="tests/unit -k settings" to choose)
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses=auto --maxprocesses=8 --durations=20)

QUICK := tests/unit tests/torture/test_bugs.py $(addprefix tests/db/test_,claims.py enqueue.py enqueue_many.py failures.py \
	lease.py operators.py unique.py worker.py)

quick: $(READY) ## Run the unit tests and some with a database, none of them slow, in less than a minute: for the edit loop
	$(BIN)/python -m pytest $(or $(ARGS),$(QUICK) -m "not slow" --numprocesses=auto --maxprocesses=8)

ODD := $(addprefix tests/db/test_,enqueue.py enqueue_by_name.py enqueue_many.py results.py schedules.py ticks.py statistics.py)

test-odd-role: $(READY) ## Run a part of the tests of the queue as a role with odd settings, that owns its schema alone
	ROWLOCK_TEST_ODD_ROLE=1 $(BIN)/python -m pytest $(or $(ARGS),$(ODD) --numprocesses=auto --maxprocesses=8)

test-pgbouncer: $(READY) ## Run the tests of the queue through a PgBouncer in transaction mode
	ROWLOCK_TEST_PGBOUNCER=1 $(BIN)/python -m pytest $(or $(ARGS),tests/db --numprocesses=auto --maxprocesses=8)

test-matrix: $(READY) ## Run the tests on PostgreSQL 15 to 18 and Python 3.11 to 3.14 (ARGS="--postgres 15 --list", …)
	$(BIN)/python -m tests.matrix $(ARGS)

contract: $(READY) ## Ask of the HTTP API, by tens of thousands of requests, what its OpenAPI document promises
	$(BIN)/python -m pytest tests/api/test_contract.py --hypothesis-profile=long --capture=no $(ARGS)

bugs: $(READY) ## Make each bug on purpose in a copy, and see that the harness finds it (ARGS="lease --jobs 1", …)
	$(BIN)/python -m tests.torture.seeded $(ARGS)

check: $(READY) ## Check format, lint, types, layers and migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m tests.alembic_check

fmt: $(READY) ## Format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Say whether it has become slower (ARGS="compare" for all rivals, "drain --jobs 50000", …)
	$(BIN)/python -m benchmarks $(or $(ARGS),guard)

docs: ## Say where the documentation is
	@echo "The documentation is Markdown: begin with README.md, then docs/."

screenshots: $(READY) ## Take the pictures of docs/dashboard.md anew (needs a Chromium)
	$(BIN)/python -m tests.browser.screenshots

lock: ## Write constraints.txt anew, from the newest releases that pyproject.toml allows
	@rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --editable '.[dev]'
	build/lock/bin/python -m pip freeze --exclude-editable > constraints.txt
	@rm -rf build/lock

clean: ## Remove the environment, the caches and the embedded server's data
	rm -rf $(VENV) .rowlock build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One installation for each change of the two files; a broken one leaves no stamp and is done again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Rowlock needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@
