# FlashBench: `make repro` regenerates every table and figure of the laptop tier, `make test` checks the code.
# Everything happens in .venv in this folder; `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup repro smoke test test-slow lint clean
.DELETE_ON_ERROR:

# Overridable: the interpreter that .venv is made from, the training replicas of `repro`, the processes of `test`.
IS_311 := -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))'
override PYTHON := $(or $(PYTHON),$(shell for p in python3.11 python3 /usr/bin/python3.11; do \
	$$p $(IS_311) 2>/dev/null && echo $$p && break; done),python3)
REPLICAS ?= 1
JOBS ?= 2
# What the smoke tier is gated against: the commit that last declared its scores, whatever has changed since.
BASE ?= $(shell git log -1 --format=%h -- results/smoke)
PROTOCOLS := nfe strength degradation enhancers guidance positions preference resolution stages tuning vbench cost
# The drill's smoke form: one protocol whole, and the trainings of two others; its scores are gated against DRILL_BASE.
DRILL_BASE ?= $(shell git log -1 --format=%h -- results/drill)
DRILL ?= flashbench run stages --tier drill && flashbench run tuning positions --tier drill --phase train
SMOKE ?= flashbench run $(PROTOCOLS) --tier smoke && flashbench claims --tier smoke && \
	flashbench audit results $(PROTOCOLS) --tier smoke --clips

# Stages call `flashbench` and `dvc` by name: take those of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONPATH PYTHONHOME
# Parallelism is in processes, one thread each: same numbers whatever the machine's number of cores.
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
export PYTHONUNBUFFERED := 1
# Nothing here asks a question or talks to anybody but the package index.
export DVC_NO_ANALYTICS := 1
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export GIT_TERMINAL_PROMPT := 0

STAMP := .venv/.setup-done
PIP := .venv/bin/python -m pip install -c constraints.txt

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## make .venv with the extras iqa, cascade, repro and dev, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) $(IS_311) 2>/dev/null || { \
	  echo "setup: needs Python 3.11 with its venv module, for which constraints.txt holds;" \
	    "$(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1 || true)" >&2; \
	  echo "  fix: install it (Debian: apt-get install python3.11 python3.11-venv)," \
	    "or name one: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11" >&2; \
	  exit 2; }
	@echo "setup: $(PYTHON) -> .venv; the first time this fetches some gigabytes (torch) from the package index"
	@.venv/bin/python $(IS_311) 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(PIP) --upgrade pip setuptools
	$(PIP) --build-constraint constraints.txt -e '.[iqa,cascade,repro,dev]'
	.venv/bin/python -m pip check
	touch $@

repro: setup  ## every table, figure and claim of params.yaml's tier; REPLICAS=3 adds training replicas 1 and 2
	@case "$(REPLICAS)" in 1|3) ;; *) echo "repro: REPLICAS is 1 or 3, not '$(REPLICAS)'" >&2; exit 2;; esac
	dvc repro
	$(if $(filter 3,$(REPLICAS)),cd replicas && dvc repro)

smoke: setup  ## the smoke tier of all protocols and a part of the drill in a temporary folder, gated against the scores that are committed
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cd "$$dir" && export FLASHBENCH_STORE="$$dir/store" && $(SMOKE) && \
	  cd "$(CURDIR)" && flashbench gate --baseline "$(BASE)" --tier smoke --results "$$dir/results/smoke" --regenerate \
	    --out "$(or $(OUT),$$dir)" && \
	  cd "$$dir" && $(DRILL) && \
	  cd "$(CURDIR)" && flashbench gate stages --baseline "$(DRILL_BASE)" --tier drill --results "$$dir/results/drill" \
	    --regenerate --out "$(or $(OUT),$$dir)/drill"

test: setup  ## the fast tests, JOBS=2 processes
	python -m pytest -q -n $(JOBS)

test-slow: setup  ## the tests that take minutes, need the package index, or need the machine to themselves
	python -m pytest -q -n $(JOBS) --dist loadscope -m "slow and not isolated" --timeout 1200
	python -m pytest -q -m isolated --timeout 1200

lint: setup  ## ruff, its formatter, and mypy
	ruff check .
	ruff format --check .
	mypy

clean:  ## remove caches and builds; .venv, the store and results stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
