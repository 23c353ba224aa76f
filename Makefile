# `make demo` and `make test` do all set-up by themselves; see README.md.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast check format map lock system browser clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

install: .venv/.installed .venv-label-studio/.installed  ## both virtual environments

demo: install  ## the whole loop on a real Label Studio (ARGS=--once: simulated coders, then exit)
	$(BIN)/clinicoco demo $(ARGS)

test: install browser  ## every test, with the real Label Studio and the real browser
	$(BIN)/pytest $(ARGS)

test-fast: install  ## the tests that need no Label Studio and no browser
	$(BIN)/pytest -m "not e2e" $(ARGS)

check: .venv/.installed  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.installed  ## format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

map:  ## one line per module: what it is for
	@for f in $$(git ls-files '*.py' | grep -v '^tests/'); do \
	  printf '%-40s %s\n' "$$f" "$$(grep -m1 -oP '(?<=""").*' $$f | sed 's/"""$$//')"; done

lock: install  ## write the versions that are installed now as the pinned ones
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > docker/constraints.txt
	.venv-label-studio/bin/pip freeze > docker/label-studio-constraints.txt

system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, got $$($(PYTHON) --version)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || docker/apt-install.sh python3-venv

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || docker/apt-install.sh chromium

# torch first and by its exact version: any other request for it may fetch gigabytes of CUDA
.venv/.installed: pyproject.toml docker/constraints.txt | system
	@echo "installing CliniCoCo into .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint docker/constraints.txt --editable '.[offline,lora,openvino,redis,dev]'
	@touch $@

# Label Studio pins packages of its own: it gets an environment of its own
.venv-label-studio/.installed: docker/label-studio-constraints.txt | system
	@echo "installing Label Studio into .venv-label-studio (a few minutes, once)"
	$(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/pip install --quiet \
	  --constraint docker/label-studio-constraints.txt label-studio==1.23.2
	@touch $@

clean:  ## remove both environments, caches and the demo's data
	rm -rf .venv .venv-label-studio demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
