# make demo registers a generated pair, make test runs the whole suite, make check is the quick look before a commit.
# Everything is installed into .venv, and again only when a list of requirements changed. Windows: CONTRIBUTING.md.
PYTHON ?= python3
TORCH ?= torch==2.13.0
DEMO ?= demo
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check

.PHONY: help setup demo test check clean

help:
	@echo "make demo    set up, register a generated pair, leave pictures and transforms in $(DEMO)/"
	@echo "make test    set up and run the whole test suite"
	@echo "make check   lint, types and the fast tests"
	@echo "make setup   only make .venv and install the package into it"
	@echo "make clean   remove .venv and $(DEMO)/"

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	$(RUN) -m autofuse_engine demo -o "$(DEMO)"

test: $(VENV)/.installed-test
	$(RUN) Testing/system_libraries.py
	$(RUN) -m pytest $(PARALLEL)

check: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright
	$(RUN) -m pytest -q -m "not slow" $(PARALLEL)

clean:
	rm -rf $(VENV) "$(DEMO)"

$(VENV)/.installed: requirements.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) was not found: install Python 3.10 or newer, or name one with PYTHON=/path/to/python." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$$("$(PYTHON)" --version) is too old: name Python 3.10 or newer with PYTHON=/path/to/python." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu run 'apt install python3-venv' first." >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PIP) $(TORCH)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-test: requirements-test.txt $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-test.txt
	@touch $@
