# Everything that a person does with a checkout.  `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= run
DESTDIR ?=
PREFIX ?= /usr
ROUNDS ?= 500
SEED ?=
DEBIAN_PACKAGES := test/integration/debian-packages.txt

.PHONY: help run test check lint types docs benchmark crash install deb clean

help:
	@echo "make run        a mirrored disk over three nodes, here and now (NBD on 10809, web page on 7480)"
	@echo "make test       every test"
	@echo "make check      format, lint, types, tests, documentation: what must hold before a commit"
	@echo "make docs       the documentation, in docs/_build/html"
	@echo "make crash      real daemons under load, killed and cut off 500 times: make crash [ROUNDS=500] [SEED=n]"
	@echo "make benchmark  side by side with other NBD servers, as far as they are installed"
	@echo "make install    for a whole machine, with units and manual pages: make install [DESTDIR=] [PREFIX=/usr]"
	@echo "make deb        a package for Debian, in build/"
	@echo "make clean      remove what these made, except $(RUN_DIR)/"

# -- set-up: one stamp for each set of packages, so that a second call is quick

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here; install Python 3.11 or later, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/stamp-run: $(BIN)/python setup.cfg setup.py pyproject.toml $(wildcard dst/native/*.c)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/stamp-test: $(VENV)/stamp-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[test]'
	@touch $@

$(VENV)/stamp-check: $(VENV)/stamp-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[test,check,docs]'
	@touch $@

# Some integration tests drive tools of Debian.  They are installed where we may; else those tests say what they miss.
$(VENV)/stamp-debian: $(VENV)/stamp-test $(wildcard $(DEBIAN_PACKAGES))
	@if [ -f $(DEBIAN_PACKAGES) ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    missing=; \
	    for package in $$(sed 's/#.*//' $(DEBIAN_PACKAGES)); do \
	        dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	    done; \
	    if [ -n "$$missing" ]; then \
	        echo "installing$$missing"; \
	        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; } \
	            || echo "not all of$$missing could be installed: their tests are skipped" >&2; \
	    fi; \
	fi
	@touch $@

# -- what it is for

run: $(VENV)/stamp-run
	@$(BIN)/python examples/run_three_nodes.py $(RUN_DIR)

test: $(VENV)/stamp-test $(VENV)/stamp-debian
	@$(BIN)/python -m test.run

check: lint types docs test

lint: $(VENV)/stamp-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/stamp-check
	$(BIN)/mypy

docs: $(VENV)/stamp-check
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

$(VENV)/stamp-benchmark: $(VENV)/stamp-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[benchmark]'
	@touch $@

benchmark: $(VENV)/stamp-benchmark
	@$(BIN)/python -m benchmarks

crash: $(VENV)/stamp-test
	@$(BIN)/python -m test.campaign --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

# The programs run in the system's Python; nothing of $(VENV) is in what is installed.
SYSTEM_PYTHON ?= /usr/bin/python3

install: $(VENV)/stamp-check
	@$(BIN)/python packaging/install.py --destdir "$(DESTDIR)/" --prefix "$(PREFIX)" --python "$(SYSTEM_PYTHON)"

deb: $(VENV)/stamp-check
	@$(BIN)/python packaging/debian_package.py --python "$(SYSTEM_PYTHON)"

clean:
	rm -rf $(VENV) build dist docs/_build _trial_temp* .mypy_cache .ruff_cache .hypothesis ./*.egg-info
	find . -name __pycache__ -o -name dropin.cache | xargs rm -rf
