# Every target sets itself up: `make demo` and `make test` work alone on a fresh machine, in any folder, twice in a row.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Debian's own interpreter where it exists: one under /root cannot be run by the other user that PostgreSQL needs.
PYTHON ?= $(shell test -x /usr/bin/python3 && echo /usr/bin/python3 || command -v python3)
BIN := .venv/bin
ARGS ?=

.PHONY: help setup demo test check bench docs drills clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: .venv/.complete-test ## install everything into .venv

# Two sets of packages, one way to install them. A set counts as installed when its stamp was written last; what a kill
# left half installed is thrown away. The lock keeps two set-ups in one folder apart.
.venv/.complete-%: requirements/%.txt pyproject.toml Makefile
	@exec 9>.setup.lock; flock 9; \
	stamp="$$(cat requirements/$*.txt pyproject.toml | sha256sum)"; \
	if [ "$$(cat $@ 2>/dev/null || true)" = "$$stamp" ] && $(BIN)/python -c '' 2>/dev/null; then touch $@; exit 0; fi; \
	echo "setting up .venv ($*) ..."; \
	if [ -e .venv/.installing ] || ! $(BIN)/python -c '' 2>/dev/null; then rm -rf .venv; $(PYTHON) -m venv .venv; fi; \
	touch .venv/.installing; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/$*.txt; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	echo "$$stamp" > $@; rm .venv/.installing

demo: .venv/.complete-run ## a live bank, and its morning health check (ARGS=--once ends after one morning)
	@$(BIN)/python -m nvclab demo $(ARGS)

test: .venv/.complete-test ## all tests, with a sample of the drills (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not drill or sample" $(ARGS)

drills: .venv/.complete-test ## all the drills: long
	@$(BIN)/python -m pytest -m drill $(ARGS)

check: .venv/.complete-test ## lint, types, import rules, tidiness, documentation
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_docs.py

docs: .venv/.complete-run ## write scripts/, docs/reference and the runbook from the code
	@$(BIN)/python -m nvcops.cli.reference

bench: .venv/.complete-test ## each figure beside its bound (ARGS=--quick)
	@for b in benchmarks/[a-z]*.py; do $(BIN)/python "$$b" $(ARGS); done

clean: ## remove the set-up and the lab's folder
	@rm -rf .venv .setup.lock .lab .mypy_cache .ruff_cache .pytest_cache
