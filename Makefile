# make help lists the targets. Each works as the first command on a fresh clone.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	command -v $(p) >/dev/null 2>&1 && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $(p))))
VENV := .venv
RUN := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet -c constraints.txt
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak scenario clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(RUNTIME)  ## run a private federation on this machine (ARGS="--rounds 4" to change it)
	@$(RUN) -m secure_pfnas demo $(ARGS)

test: $(DEVELOPMENT)  ## run the tests, with coverage
	$(RUN) -m pytest -m "not soak" -n 2 --dist loadfile --cov --cov-report=term $(ARGS)

check: $(DEVELOPMENT)  ## lint, format, types, import contracts, dead code
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m basedpyright
	$(VENV)/bin/lint-imports
	$(RUN) -m vulture

format: $(DEVELOPMENT)  ## format the code
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

bench: $(DEVELOPMENT)  ## run the benchmarks (ONLY=name for one)
	$(RUN) -m tests.benchmarks $(ONLY)

soak: $(DEVELOPMENT)  ## run the long tests
	$(RUN) -m pytest -m soak --timeout 3600 $(ARGS)

scenario: $(RUNTIME)  ## play the scenarios (ONLY=name for one)
	$(RUN) -m secure_pfnas scenario run $(or $(ONLY),all)

clean:  ## remove the environments and caches; runs and certificates stay
	rm -rf $(VENV) .venv-* .pytest_cache .ruff_cache .hypothesis .import_linter_cache \
		.coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed" >&2; \
		echo "next: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV); the first time takes some minutes" >&2
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) -e '.[dev]'
	@touch $@
