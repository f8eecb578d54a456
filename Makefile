# Every target makes .venv with the pinned dependencies by itself; nothing else is needed but
# Python 3.11 or newer. Another interpreter: make PYTHON=python3.12 ...

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
WITHOUT_HNSWLIB := $(VENV)/.without-hnswlib
# `make test ARGS="-k storage"`, `make bench ARGS=...`: handed on as they are.
ARGS ?=

.PHONY: help demo test mutants kernels check format serve bench clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## data, training, evaluation, bundle, one request over HTTP
	@$(PY) -m serve.demo train/presets/demo.toml $(ARGS)

test: $(READY)  ## the whole suite
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

mutants: $(READY)  ## put one bug at a time in a copy and see that a test fails
	@$(PY) -m tests.mutants $(ARGS)

kernels: $(READY)  ## unit and contract tests as other processors compute
	@tests/kernels.sh $(ARGS)

check: $(READY)  ## format, lint, types, who imports whom
	@$(VENV)/bin/ruff format --check --quiet || { echo "run: make format"; exit 1; }
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/mypy
	@$(PY) -m pytest -q --durations=0 tests/unit/test_imports.py

format: $(READY)  ## mend what the format and lint checks can mend
	@$(VENV)/bin/ruff format --quiet
	@$(VENV)/bin/ruff check --quiet --fix

serve: $(READY)  ## serve the last bundle until Ctrl-C (or: make serve BUNDLE=...)
	@bundle="$${BUNDLE:-$$(ls -td runs/*/bundles/*/ 2>/dev/null | head -n 1 || true)}"; \
	if [ -z "$$bundle" ]; then echo "no bundle in runs/ yet; make one: make demo" >&2; exit 2; fi; \
	exec $(PY) -m serve "$$bundle" $(ARGS)

bench: $(READY)  ## measure; every number is a ratio within one run
	@$(PY) -m tests.benchmarks $(ARGS)

clean:  ## remove .venv and caches; runs/ and data/ stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Only the dependencies are installed (see pyproject.toml), so pip gets their list, not the project.
# Where hnswlib was left out, each later `make` looks whether it can be built by now.
$(READY): pyproject.toml constraints.txt | $(if $(wildcard $(WITHOUT_HNSWLIB)),hnswlib)
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; install Python 3.11 or newer, or: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing the pinned dependencies into $(VENV) (a few minutes the first time) ..."
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV)
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dev"], *p["optional-dependencies"]["onnx"], *p["optional-dependencies"]["mlflow"], sep="\n")' > $(VENV)/requirements.txt
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -r $(VENV)/requirements.txt \
		| awk '/^Collecting/ {printf "\r  %3d %-50.50s", ++n, $$2; fflush()} /^Installing/ {printf "\r  unpacking %d packages ...%30s\n", n, ""; fflush()}'
	@$(MAKE) hnswlib
	@touch $(READY)

# The one dependency that is published as source alone. It needs a C++ compiler and Python.h, which
# is tried first; without them, or should its build fail, all else works and search is exact.
.PHONY: hnswlib
hnswlib:
	@missing=; headers=$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	$${CXX:-c++} -x c++ -fsyntax-only -include vector /dev/null 2>/dev/null || missing="g++"; \
	[ -e "$$headers/Python.h" ] || missing="$$missing $$($(PY) -c 'import sys; print("python{}.{}-dev".format(*sys.version_info))')"; \
	if [ -n "$$missing" ] && ! $(PY) -c 'import hnswlib' 2>/dev/null; then \
		[ -e $(WITHOUT_HNSWLIB) ] || printf '%s\n' \
			"hnswlib cannot be built here, so large catalogues are searched exactly instead of by HNSW." \
			"For HNSW (Debian, Ubuntu): apt-get install $$(echo $$missing), then run make again."; \
		touch $(WITHOUT_HNSWLIB); \
	elif $(PY) -m pip install --disable-pip-version-check -c constraints.txt hnswlib > $(VENV)/hnswlib.log 2>&1; then \
		rm -f $(WITHOUT_HNSWLIB); \
	else \
		printf '%s\n' \
			"hnswlib could not be installed, so large catalogues are searched exactly instead of by HNSW." \
			"Why is in $(VENV)/hnswlib.log; to try again: rm $(READY) and run make."; \
		rm -f $(WITHOUT_HNSWLIB); \
	fi
