# Every target makes what it needs: a clean clone, python3 (3.11 to 3.13) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WARM ?= yes
READY := $(VENV)/.ready
PROSE := flan_jax tasks mixtures gin tests benchmarks docs setup.py Makefile $(wildcard *.md)
export CUDA_VISIBLE_DEVICES ?=

.PHONY: help setup torch demo study test test-slow lint format golden docs audit bench bench-report clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

setup: $(READY)  ## .venv with everything that tests, docs and demo need

$(READY): setup.py constraints.txt
	@echo "[setup] $(VENV) from setup.py, pinned by constraints.txt: some minutes once"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("setup: got Python %d.%d; must be 3.11 to 3.13: make PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv $(VENV) || { echo "setup: $(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,docs,hf,tpu]'
	@touch $@
	@# only faster: a setup without it is as good
	@[ -z "$(WARM)" ] || { echo "[setup] the demo's first answer, compiled into the cache (~/.cache/flan_jax/xla)"; \
	  $(BIN)/flan ask microworld 'Who is hungry?' >/dev/null 2>&1 || true; }
	@echo "[setup] done"

torch: $(READY)  ## adds torch and transformers, to compare against them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch]'

demo: $(READY)  ## base LM -> zero-shot -> instruction tuning -> zero-shot, under 10 minutes
	$(BIN)/flan train --gin_file=gin/runs/demo.gin

study: $(READY)  ## FLAN's experiment on three clusters of the microworld, under 15 minutes
	$(BIN)/flan study gin/studies/microworld_small.gin

# An environment may forbid bytecode; without it each process compiles the whole package.
# Those of TensorFlow have a process of their own beside the others, and share what is
# compiled; what they print follows at the end.
define pytest
	@made=$$(mktemp -d) && export JAX_COMPILATION_CACHE_DIR=$$made/compiled \
	  PYTHONDONTWRITEBYTECODE=; \
	$(BIN)/python -m pytest $(1) --durations=10 --tensorflow=only >$$made/log 2>&1 & half=$$!; \
	trap 'kill $$half 2>/dev/null; rm -rf $$made' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/python -m pytest $(1) --durations=25 --tensorflow=without \
	  -n 2 --dist loadfile --no-loadscope-reorder; code=$$?; \
	wait $$half || code=$$?; cat $$made/log; exit $$code
endef

test: $(READY)  ## the default tests
	$(call pytest)

test-slow: $(READY)  ## the slow tests too
	$(call pytest,-m 'slow or not slow')

lint: $(READY)  ## ruff and types on the code, spelling and wording, flan lint on the templates
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/codespell --skip '*/microworld/*' $(PROSE)
	$(BIN)/codespell --ignore-words-list colour,colours,grey flan_jax/microworld tests/microworld  # codespell:ignore
	$(BIN)/python tests/wording.py
	$(BIN)/flan lint

format: $(READY)  ## ruff fixes what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(READY)  ## rewrites the golden files; read the diff
	$(BIN)/python -m pytest tests/golden_test.py tests/tpu/plan/plan_test.py --update-golden

docs: $(READY)  ## the site into site/, and the generated files of docs/
	$(BIN)/python docs/generate/catalog.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(READY)  ## every benchmark beside its peer, at most 30 minutes: benchmarks/results/DATE.json
	$(BIN)/python benchmarks/bench.py

bench-report: $(READY)  ## the last results of make bench beside those before
	@$(BIN)/python benchmarks/bench.py --report

audit: $(READY)  ## known vulnerabilities of the pins; else their list, with dates
	$(BIN)/python .ci/audit.py

clean:  ## removes build outputs and runs
	rm -rf $(VENV) build site *.egg-info runs
