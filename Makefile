# `make bench` and `make test` set up everything they need in .venv and then run.
# To use an environment that exists: make test PYTHON=/path/to/its/python
SHELL := /bin/sh

ifeq ($(origin PYTHON), undefined)
PYTHON := .venv/bin/python
OWN := own
endif

# What is installed where PyTorch is missing. An installed one is kept as it is.
TORCH ?= torch==2.13.0
# How many tests or compilers run at once, and pages or folders of prebuilt wheels, for
# `make extensions`.
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
WHEELS ?=
SUITE ?= default
PIP := $(PYTHON) -m pip --disable-pip-version-check
EXTENSIONS := $(PYTHON) -m pyg_diffrec.extensions --jobs $(JOBS) $(WHEELS:%=--wheels '%')

.PHONY: bench test lint docs install install-dev install-docs extensions own clean

bench: install
	$(PYTHON) -m pyg_diffrec bench $(SUITE) $(ARGS)

test: install
	$(PYTHON) -m pytest -n $(JOBS) $(ARGS)

lint: install-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

docs: install-docs
	$(PYTHON) -m sphinx -W -b html docs docs/_build

# torch-scatter and torch-sparse, which are needed on a GPU alone.
extensions: install
	$(EXTENSIONS)

install: EXTRA := test
install-dev: EXTRA := dev
install-docs: EXTRA := docs
install install-dev install-docs: $(OWN)
	@$(PYTHON) -c 'import torch' 2>/dev/null || $(PIP) install '$(TORCH)' numpy
	@$(PIP) install --quiet --editable '.[$(EXTRA)]'
	@$(EXTENSIONS) --if-gpu

# Made anew if it is not whole.
own:
	@$(PIP) --version >/dev/null 2>&1 || python3 -m venv --clear .venv

clean:
	rm -rf .venv build docs/_build bench-results
