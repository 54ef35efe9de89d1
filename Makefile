# `make bench` and `make test` set up everything they need in .venv and then run.
# To use an environment that exists: make test PYTHON=/path/to/its/python
SHELL := /bin/sh

ifeq ($(origin PYTHON), undefined)
PYTHON := .venv/bin/python
OWN := .venv/bin/python
endif

# What is installed where PyTorch is missing. An installed one is kept as it is.
TORCH ?= torch==2.13.0
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
SUITE ?= default
PIP := $(PYTHON) -m pip --disable-pip-version-check

.PHONY: bench test lint docs install install-dev install-docs clean

bench: install
	$(PYTHON) -m pyg_diffrec bench $(SUITE) $(ARGS)

test: install
	$(PYTHON) -m pytest $(ARGS)

lint: install-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

docs: install-docs
	$(PYTHON) -m sphinx -W -b html docs docs/_build

install: EXTRA := test
install-dev: EXTRA := dev
install-docs: EXTRA := docs
install install-dev install-docs: $(OWN)
	@$(PYTHON) -c 'import torch' 2>/dev/null || $(PIP) install '$(TORCH)' numpy
	@$(PYTHON) -c 'import torch_scatter, torch_sparse' 2>/dev/null \
		|| $(MAKE) --no-print-directory extensions PYTHON=$(PYTHON)
	@$(PIP) install --quiet --editable '.[$(EXTRA)]'

# torch-scatter and torch-sparse compile against the PyTorch that is there, hence
# without build isolation; the extra configuration lets setuptools compile on all
# cores. If a cached wheel belongs to another PyTorch, the second line builds anew.
.PHONY: extensions
extensions:
	@echo 'Installing torch-scatter and torch-sparse: about 15 minutes if they compile.'
	$(PIP) install --quiet 'setuptools<81' wheel scipy
	printf '[build_ext]\nparallel = $(JOBS)\n' > .build.cfg
	DIST_EXTRA_CONFIG=$(CURDIR)/.build.cfg $(PIP) install --no-build-isolation \
		torch-scatter torch-sparse
	$(PYTHON) -c 'import torch_scatter, torch_sparse' \
		|| DIST_EXTRA_CONFIG=$(CURDIR)/.build.cfg $(PIP) install --no-build-isolation \
		--no-cache-dir --force-reinstall --no-deps torch-scatter torch-sparse
	rm -f .build.cfg

.venv/bin/python:
	python3 -m venv .venv

clean:
	rm -rf .venv .build.cfg build docs/_build bench-results
