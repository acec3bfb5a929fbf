# Two commands do everything on a bare machine: `make demo` and `make test`. `make help` tells the rest.
# Works with GNU make 3.81 (macOS) and later; needs git, make and Python 3.11 to 3.13 with venv.

VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 3000
# More than cores: half of a test is waiting for processes to start and stop.
WORKERS ?= 4
# Bytecode is compiled once, at installation: otherwise every process pays for it (an import of dagster: 1.6 s, not 0.5).
UV = env -u PYTHONDONTWRITEBYTECODE -u VIRTUAL_ENV UV_PYTHON_DOWNLOADS=never $(BIN)/uv

VERSION = $(shell awk -F '"' '/^version = / {print $$2; exit}' pyproject.toml)
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
TARGET ?= runtime
IMAGE ?= gossamer:$(VERSION)$(if $(filter-out runtime,$(TARGET)),-$(TARGET))
BUILDER ?= $(firstword $(notdir $(foreach name,docker podman buildah,$(shell command -v $(name)))) docker)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo dev test test-k8s torture-k8s image test-py lint format bench torture conformance-scrapy conformance-gx test-oldest-scrapy test-oldest-gx lock schema clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## the whole platform on the demo shop, in the terminal and the browser (ONCE=1: ends by itself; PORT=3000)
	@$(BIN)/python -m demo --port $(PORT) $(if $(ONCE),--once)

dev: setup ## Dagster on your own sources (GOSSAMER_SOURCES, default sources/), http://127.0.0.1:PORT
	@$(BIN)/gossamer serve --port $(PORT)

setup: $(VENV)/.installed ## the venv with hash-pinned dependencies

setup-dev: $(VENV)/.installed-dev ## the same with the tools for tests and lint

test: setup-dev ## all tests but those on a cluster; those that need a service start it, or say why they cannot
	@$(BIN)/pytest -n $(WORKERS) -m "not k8s" $(ARGS)

test-k8s: setup-dev ## the tests on a Kubernetes cluster (GOSSAMER_TEST_KUBECONFIG names it), without the slow ones
	@$(BIN)/pytest -n 2 -m "k8s and not torture" tests/k8s --ignore=tests/k8s/test_outages.py $(ARGS)
	@$(BIN)/pytest -n 0 -m "k8s and not torture" tests/k8s/test_outages.py $(ARGS)

torture-k8s: setup-dev ## the slow ones
	@$(BIN)/pytest -n 0 -m "k8s and torture" tests/k8s $(ARGS)

image: ## the container image (TARGET=chromium, BASE=a Debian with Python, IMAGE=its name, BUILDER=docker, podman or buildah)
	@$(BUILDER) build -f deploy/Dockerfile --target $(TARGET) $(if $(BASE),--build-arg BASE=$(BASE)) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE) $(ARGS) .

test-py: ## the fast tests on another Python: make test-py PY=python3.12
	@test -n "$(PY)" || { echo "Name a Python: make test-py PY=python3.12" >&2; exit 2; }
	@version=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	  $(MAKE) --no-print-directory setup-dev VENV=.venv-$$version PYTHON=$(PY) && \
	  .venv-$$version/bin/pytest -n $(WORKERS) -m "not service and not slow" $(ARGS)

# Each in a venv of its own, because it has other packages than the lock files say.
conformance-scrapy: ## Scrapy's own tests on our engine, against Scrapy's (ARGS="-k pipelines")
	@$(MAKE) --no-print-directory setup-others VENV=.venv-conformance OTHERS=tests/conformance/requirements.txt
	@.venv-conformance/bin/python tests/conformance/scrapy_run.py $(ARGS)

test-oldest-scrapy: ## the fast tests of crawls on the oldest supported Scrapy
	@$(MAKE) --no-print-directory setup-others VENV=.venv-scrapy-oldest OTHERS=tests/conformance/requirements-oldest.txt
	@.venv-scrapy-oldest/bin/pytest -n $(WORKERS) -m "not slow" $(ARGS) \
	  $(wildcard tests/test_crawl.py tests/test_engine*.py tests/test_kills.py tests/test_reasons.py)

# Great Expectations before 1.24 leaves the folder of a context in memory to the garbage collector.
LEFT_OPEN := -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

conformance-gx: setup-dev ## Great Expectations' own tests on Polars frames (ARGS="-k unique")
	@$(BIN)/python tests/conformance/gx_run.py $(ARGS)

test-oldest-gx: ## the tests of suites on the oldest supported Great Expectations
	@$(MAKE) --no-print-directory setup-others VENV=.venv-gx-oldest OTHERS=tests/conformance/requirements-oldest-gx.txt
	@.venv-gx-oldest/bin/pytest -n $(WORKERS) -m "not slow" $(LEFT_OPEN) $(ARGS) \
	  tests/test_gx_engine.py tests/test_gx_compiled.py tests/test_quality.py

.PHONY: setup-others
setup-others: setup-dev
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --require-hashes --compile-bytecode \
	  -r $(OTHERS)

lint: setup-dev ## ruff, mypy, import rules, every declaration
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/gossamer check

format: setup-dev ## formats the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup-dev ## the benchmarks' tables
	@$(BIN)/python benchmarks/load.py && $(BIN)/python -m benchmarks.crawl $(ARGS)
	@$(BIN)/python -m benchmarks.quality && $(BIN)/python -m benchmarks.layers

torture: setup-dev ## crawls killed 500 times and robbed of disk, clock and lake (ARGS="--kills 50 --only kills")
	@$(BIN)/python -m tests.torture $(ARGS)

lock: setup-dev ## renews the lock files from pyproject.toml (UPGRADE=1: to the newest versions)
	@for files in "requirements.txt" "requirements-dev.txt --group dev"; do \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    $(if $(UPGRADE),--upgrade) pyproject.toml --group build -o $$files; done
	@grep -A 99 '^uv==' requirements.txt | awk 'NR == 1 || /^    --hash/ {print; next} {exit}' > requirements-uv.txt

schema: setup ## renews docs/source.schema.json from the declaration's models
	@$(BIN)/python -c 'import json; from gossamer.declarations import json_schema; print(json.dumps(json_schema(), indent=2))' \
	  > docs/source.schema.json

clean: ## removes what was made here, but not your lake
	rm -rf .venv .venv-* build .mypy_cache .ruff_cache .pytest_cache .hypothesis dbt_project/target dbt_project/logs .gossamer/demo

# PYTHON names the interpreter; otherwise the first supported one with venv is taken. The mark is set when the venv is
# whole: one whose making was cut short is made again.
$(VENV)/.made:
	@for candidate in $(or $(PYTHON),python3.12 python3.13 python3.11 python3 python); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then found=$$candidate; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "Gossamer needs Python 3.11, 3.12 or 3.13 with its venv module$(if $(PYTHON), ($(PYTHON) is not one)): install it (Debian: apt install python3-venv), or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; fi; \
	echo "Setting up $(VENV) with $$($$found --version) ..."; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV) && $(BIN)/python -m pip --version >/dev/null && touch $@

$(BIN)/uv: requirements-uv.txt | $(VENV)/.made
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt && touch $@

$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/uv
	@if [ -f $(VENV)/.installed-dev ]; then $(MAKE) --no-print-directory $(VENV)/.installed-dev; else \
	  echo "Installing the pinned dependencies ..."; $(call install,requirements.txt); fi
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt pyproject.toml | $(BIN)/uv
	@echo "Installing the pinned dependencies and tools ..."; $(call install,requirements-dev.txt)
	@touch $(VENV)/.installed $@

define install
$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(1) && \
  $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index -e .
endef
