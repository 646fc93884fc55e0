# popq's own chores. `make demo` and `make test` set up all they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint types check bench reference lock clean

help: ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "popq needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv: a few GB on the first run, torch above all"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the whole chain on generated photos, no key or server needed
	$(BIN)/popq demo

test: check $(READY) ## lint, types, floors, and the tests with coverage
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses auto --dist worksteal $(PYTEST)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

chaos: $(READY) ## the long form of tests/chaos: an hour of killed workers and broken services
	POPQ_TEST_CHAOS=full $(BIN)/pytest -m chaos tests/chaos $(PYTEST)

lint: $(READY) ## ruff, and the floors that imports may not climb
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(READY) ## mypy, strict
	$(BIN)/mypy

check: lint types ## lint and types

bench: $(READY) ## measure every claim of speed; writes benchmarks/results.md
	$(BIN)/python benchmarks/run_all.py

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --quiet

reference: $(READY) ## make docs/reference from the code
	$(BIN)/python docs/make_reference.py

# All extras but the larger trackers, each a service's own package with a hundred others.
TESTED := $(foreach extra,train parquet postgres flower s3 onnx browse tensorboard,--extra $(extra))

lock: $(READY) ## pin the newest versions that fit, with hashes; the images' are parts of the whole
	$(LOCK) $(TESTED) --group dev --upgrade --output-file requirements.lock
	$(LOCK) --extra postgres --extra parquet --extra s3 --extra flower \
		--constraints requirements.lock --output-file requirements-io.lock
	$(LOCK) --extra postgres --extra parquet --extra s3 --extra train \
		--constraints requirements.lock --output-file requirements-gpu.lock

clean: ## remove .venv and everything that tools left behind
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .*_cache
