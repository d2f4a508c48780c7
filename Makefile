# `make` prints this list. Every target sets up what it needs and starts at once when that is there.

.DEFAULT_GOAL := help
.PHONY: help demo test dev lint bench docs prices notebooks setup clean FORCE

# An activated environment or a caller's Python path must not leak into ours.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH UV_PROJECT_ENVIRONMENT UV_PYTHON
export UV_LINK_MODE := copy
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1

SYNCED := .venv/.synced
BIN := .venv/bin

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-18s%s\n' "$$name" "$$text"; done

demo: $(SYNCED) ## from nothing to answers: harvest, build every asset, ask, say what to open next
	@$(BIN)/tracemill demo

test: $(SYNCED) ## run the tests; ARGS="tests/log -x" runs some of them
	@$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder $(ARGS)

dev: $(SYNCED) ## open the Dagster UI: assets, runs, schedules, checks
	@$(BIN)/tracemill ui

lint: $(SYNCED) ## ruff, types, and who may import whom
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . && echo 'ruff: clean'
	@$(BIN)/pyright --warnings
	@$(BIN)/lint-imports --no-cache --no-logo

bench: $(SYNCED) ## measure this machine; the README quotes it; ARGS=--quick takes a tenth of the time
	@$(BIN)/python -m benchmarks.log $(ARGS)

docs: $(SYNCED) ## write docs/data-model.md anew from the code
	@$(BIN)/python docs/data_model.py

prices: $(SYNCED) ## freeze the prices of the installed genai-prices into the package
	@$(BIN)/python docs/price_table.py

notebooks: $(SYNCED) ## render the notebooks to notebooks/rendered/
	@$(BIN)/python -m assets.reports

setup: $(SYNCED) ## install everything into .venv, and do nothing else
	@echo 'Ready: .venv holds the locked dependencies.'

clean: ## remove the installation; the warehouse stays
	rm -rf .venv .uv

# The stamp holds the path of this folder, so that a checkout that was moved is set up again.
ifneq ($(CURDIR),$(shell cat $(SYNCED) 2>/dev/null))
$(SYNCED): FORCE
endif
$(SYNCED): pyproject.toml uv.lock
	@sh .ci/setup
