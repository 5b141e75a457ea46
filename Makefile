# Everything a person or CI types in this repository; `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_PIP := VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(UV) pip
PACKAGES := topology workflow wire control_plane cluster_agent simulator bdw_fed
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-run demo image kind-demo test check check-starter starter protos lock clean

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(VENV)/.stamp-dev  ## a virtual environment with everything for development

setup-run: $(VENV)/.stamp-run  ## a virtual environment with what running needs, and no more

$(VENV)/.stamp-uv: requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "bdw-fed needs Python 3.11 or newer; '$(PYTHON)' is older or missing. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: sudo apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

# pip is the second try because it reads pip.conf, which uv does not.
define install_lock
	@echo "installing $(1) into $(VENV)"
	@$(UV_PIP) install --quiet --require-hashes -r $(1) || { \
	  echo "uv could not install $(1); trying pip, which reads your pip configuration" >&2; \
	  $(BIN)/python -m pip install --quiet --require-hashes -r $(1); }
	@$(UV_PIP) install --quiet --no-deps --no-build-isolation --editable .
endef

$(VENV)/.stamp-run: $(VENV)/.stamp-uv requirements.lock pyproject.toml
	$(call install_lock,requirements.lock)
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-uv requirements-dev.lock requirements.lock pyproject.toml
	$(call install_lock,requirements-dev.lock)
	@touch $(VENV)/.stamp-run $@

demo: setup-run  ## a federation of four clusters on this machine runs the flights example
	$(BIN)/python examples/flights/prepare.py
	$(BIN)/bdw-fed demo

image:  ## hub, agent and node daemon in one image, built by Docker
	docker build --quiet --file deploy/docker/Dockerfile --tag bdw-fed:$(VERSION) .

# An offline test bed beside the repository, where there is one, brings Docker, kind and a node image.
TESTBED ?= ../shared/testbed
KIND_ENV = BDW_FED_KIND_IMAGE="$${BDW_FED_KIND_IMAGE:-$(shell sed -n 's/^node_image=//p' $(TESTBED)/setup 2>/dev/null)}"
kind-demo: setup-run  ## flights and a chain over three Kubernetes clusters made by kind on this machine
	@[ ! -x $(TESTBED)/setup ] || $(TESTBED)/setup
	$(BIN)/python examples/flights/prepare.py
	$(BIN)/python examples/thesis-chain/prepare.py
	$(KIND_ENV) $(BIN)/bdw-fed kind up

# Tests start hundreds of processes: what one has compiled the next ones find, whatever the shell says of that.
# Many of them wait more than they compute, so there are twice as many at a time as two processors could do.
test: setup  ## the quick tests
	PYTHONDONTWRITEBYTECODE= BDW_FED_HYPOTHESIS=$${BDW_FED_HYPOTHESIS:-quick} $(BIN)/pytest -n 4 -m "not slow and not kind and not fault and not browser" tests

check: setup check-starter  ## format, lint, types, layers, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy protos/*.py
	set -e; for folder in $(sort $(dir $(wildcard examples/*/*.py examples/*/steps/*.py))); do $(BIN)/mypy $$folder*.py; done
	rm -rf build/steps; set -e; for kind in python service; do \
	  $(BIN)/bdw-fed step init checked --kind $$kind --to build/steps/$$kind >/dev/null; \
	  $(BIN)/mypy build/steps/$$kind/code/*.py; done
	$(BIN)/lint-imports
	$(BIN)/python protos/check.py
	$(BIN)/python protos/generate.py --check
	$(BIN)/pytest -q tests/architecture

starter:  ## the static program that is put into pods, built into build/
	cd starter && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../build/starter .

check-starter:
	@if command -v go >/dev/null; then \
	  cd starter && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go test ./...; \
	else echo "SKIPPED, LOUDLY: there is no go on PATH, so nothing of the starter has been checked."; fi

protos: setup  ## generate Python code from the .proto files
	$(BIN)/python protos/generate.py

# No index address may appear in the locks, see docs/decisions/0001-lock-without-hosts.md.
COMPILE = $(UV_PIP) compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links
lock: $(VENV)/.stamp-uv  ## renew the locks
	echo 'uv>=0.13,<0.14' | $(COMPILE) --no-annotate - -o requirements-uv.lock
	$(COMPILE) --extra build --extra dev pyproject.toml -o requirements-dev.lock
	$(COMPILE) --extra build --constraint requirements-dev.lock pyproject.toml -o requirements.lock

clean:  ## remove everything that can be made again
	rm -rf $(VENV) out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find $(PACKAGES) tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
