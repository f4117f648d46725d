# Everything a newcomer needs is `make serve` and `make test`. The work itself is in scripts/.

PYTHON ?= python3
ADDR ?= :5000
WORKERS ?= 2

export PYTHON ADDR WORKERS
export PYTHONUTF8 = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup serve test test-full check conformance bench bench-lifecycle bench-scale crash fuzz lifecycle loop scale \
	fresh lock wheels image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv with the locked packages and .venv/bin/stackyard
	@sh scripts/setup

serve: setup ## Serve a registry on ADDR (:5000) with its data in ./data
	@sh scripts/serve

test: ## Set everything up and run the tests
	@sh scripts/setup dev
	@sh scripts/system-packages
	@sh scripts/test

test-full: ## The tests with real clients at full sizes
	@sh scripts/setup dev
	@sh scripts/system-packages
	STACKYARD_FULL=1 .venv/bin/pytest -q tests/clients

check: ## Formatting, lint and types
	@sh scripts/setup dev
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy --no-error-summary

conformance: ## The official OCI conformance suites (needs Go)
	@sh scripts/setup dev
	.venv/bin/pytest -q -p no:randomly tests/conformance

bench: ## Compare with docker-registry and nginx, write docs/benchmarks.md (ARGS=--quick)
	@sh scripts/setup dev
	@sh scripts/system-packages
	.venv/bin/python -m bench $(ARGS)

bench-lifecycle: ## Measure collection, import and quotas, write docs/benchmarks-lifecycle.md (ARGS=--quick)
	@sh scripts/setup dev
	@sh scripts/system-packages
	.venv/bin/python -m bench --lifecycle $(ARGS)

bench-scale: ## Compare three nodes with one, and both registries on S3, write docs/benchmarks-scale.md (ARGS=--quick)
	@sh scripts/setup dev
	@sh scripts/system-packages
	.venv/bin/python -m bench --scale $(ARGS)

crash: ## kill -9 at random points, 200 times
	@sh scripts/setup dev
	STACKYARD_CRASHES=200 .venv/bin/pytest -q -s tests/crash/test_kill.py

fuzz: ## Send the admin API whatever it describes, and what it does not, 500 times each
	@sh scripts/setup dev
	STACKYARD_FUZZ=500 .venv/bin/pytest -q -n auto tests/api/test_fuzz.py

lifecycle: ## 100 000 steps of pushes, deletes, retention and two collectors on each engine
	@sh scripts/setup dev
	@sh scripts/system-packages
	STACKYARD_STEPS=100000 .venv/bin/pytest -q -s tests/registry/test_machine.py

loop: ## 500 pushes by real clients while collectors run, are killed and frozen, on each engine
	@sh scripts/setup dev
	@sh scripts/system-packages
	STACKYARD_PUSHES=500 STACKYARD_PROMISE=60 STACKYARD_LEASE=30 .venv/bin/pytest -q -s tests/crash/test_loop.py

scale: ## Three nodes behind nginx: 1 000 operations under each kind of trouble, 30 000 for the availability
	@sh scripts/setup dev
	@sh scripts/system-packages
	STACKYARD_SCALE=1000 .venv/bin/pytest -q -s -p no:randomly tests/scale

fresh: ## Prove `make serve` in a bare Debian of its own (root)
	@sh scripts/setup dev
	.venv/bin/pytest -q -m slow tests/packaging/test_fresh_machine.py

lock: ## Renew requirements.lock and requirements-dev.lock
	@sh scripts/lock

wheels: ## Fetch the wheels that the container image holds
	@sh scripts/setup
	@sh scripts/wheels

image: wheels ## Build the container image (BASE=debian:12 TAG=stackyard BUILDER=docker)
	@sh scripts/image

clean: ## Remove everything made here, except ./data
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +
