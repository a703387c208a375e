# or1lab: the targets a person types. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
DEVICE ?= $(if $(wildcard .venv/installed-gpu),gpu,cpu)
JOBS ?= 2
KEPT := experiments/results
# An index with CPU builds of torch: what PyPI has for Linux on x86 is built for CUDA, and cannot be imported without it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
INSTALLED := .venv/installed-$(DEVICE)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps --progress-bar off
# What pip says, told calmly: each download on one line of a terminal; in a log the large ones, of 10 MB and more.
CALM = while read -r did what size; do case "$$did $$what" in \
    Downloading\ *.whl) if [ -t 1 ]; then printf '\r\033[K  %.60s %s' "$${what\#\#*/}" "$$size"; \
      else case "$$size" in '('[0-9][0-9]*MB*) echo "  $${what\#\#*/} $$size";; esac; fi;; \
    Installing\ collected) if [ -t 1 ]; then printf '\r\033[K'; fi; echo '  installing what was downloaded';; \
  esac; done
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup demo study figures report test test-slow bench gpu-check lint docs lab locks clean
.PHONY: figures/figures.log figures/tables.log figures/claims.txt

help:  ## list the targets
	@echo "usage: make TARGET [PYTHON=python3.12] [DEVICE=cpu|gpu] [TORCH_INDEX=URL]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## make .venv with the locked dependencies (DEVICE=gpu on a GPU machine); needs no root
	@$(if $(filter setup,$(MAKECMDGOALS)),echo 'next: `make demo` trains six small policies in seven minutes; `make lab` opens the notebooks')

$(INSTALLED): requirements/$(DEVICE).lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15) and "or1lab needs Python 3.11 to 3.14, not %d.%d; name another with PYTHON=..." % sys.version_info[:2])'
	@echo "set-up: 4 GB into .venv for $(DEVICE), a few minutes"
	@echo '1 of 4: an empty environment'
	@$(PYTHON) -m venv .venv
	@echo "2 of 4: the packages of requirements/$(DEVICE).lock, up to $$(grep -c == requirements/$(DEVICE).lock)"
	@$(if $(filter cpu,$(DEVICE)),$(PIP) --retries 1 --timeout 15 --index-url $(TORCH_INDEX) \
	  "$$(grep '^torch==' requirements/cpu.lock)" 2> .venv/torch.log | $(CALM) || \
	  echo '  no torch from $(TORCH_INDEX) (see .venv/torch.log): it comes from where the rest does')
	@$(PIP) -r requirements/$(DEVICE).lock | $(CALM)
	@echo '3 of 4: or1lab itself'
	@$(PIP) --quiet --quiet --no-build-isolation --editable .
	@echo '4 of 4: what is there now'
	@$(BIN)/or1lab doctor --quick
	@rm -f .venv/installed-*; touch $@

demo: setup  ## the main job: six training runs, a figure, a table (about seven minutes on two cores, and the set-up before)
	@$(BIN)/or1lab sweep demo --jobs $(JOBS) --resume
	@$(BIN)/or1lab figures demo
	@$(BIN)/or1lab tables demo
	@printf '%s\n' '' \
	  'made: figures/demo.png, .pdf (figure), .csv (its data), .md (table); run folders and executed notebooks in runs/demo' \
	  'try next:' \
	  '  make lab                                        open notebooks/quickstart.ipynb and play' \
	  '  $(BIN)/or1lab runs show runs/demo/off-policy/seed-0   the numbers and a sampled chain of thought of one run' \
	  '  $(BIN)/or1lab train tiny D_T=4 stages.0.steps=20     train another arm: N_SGD = 4'

study: setup  ## every run of the study that is missing, kept in experiments/results (hours, resumable; or1lab sweep study --dry-run --pack experiments/results tells how many)
	@$(BIN)/or1lab sweep study --jobs $(JOBS) --resume --pack $(KEPT)

# Side by side, since tables and ledger use one core alone for much of their time.
figures: setup  ## every figure and table of the kept runs, and the ledger, into figures/ (half a minute)
	@mkdir -p figures
	@$(MAKE) --no-print-directory --jobs 3 figures/figures.log figures/tables.log figures/claims.txt
	@sed -n '/ primary claims: /,$$p' figures/claims.txt
	@echo 'made in figures/: *.png, .pdf (figures), .csv (their data), .txt (captions); *.md, .html, .tex (tables); claims.txt (the ledger)'

figures/figures.log:
	@$(BIN)/or1lab figures --results $(KEPT) > $@

figures/tables.log figures/claims.txt:
	@$(BIN)/or1lab $(basename $(@F)) --results $(KEPT) > $@ 2>&1 || { cat $@; exit 1; }

report: setup  ## the study on one page, report.html, from its notebooks executed on experiments/results (two minutes)
	@$(BIN)/or1lab report --jobs $(JOBS)

test: setup  ## the tests (about ten minutes on two cores)
	@$(BIN)/python -m pytest -m 'not slow and not faults and not browser' --numprocesses $(JOBS) --dist loadfile

test-slow: setup  ## what takes longer: slow tests, killed processes, notebooks in a browser
	@$(BIN)/python -m pytest -m '(slow or faults) and not browser' --numprocesses $(JOBS) --dist loadfile
	@$(BIN)/python -m pytest -m browser

bench: setup  ## ours against stock TRL, printed and kept in benchmarks/results (about an hour, an idle machine)
	@for name in update step memory judge curate scoring coverage ledger planner scheduling; do $(BIN)/python -m benchmarks.$$name --save benchmarks/results/$$name.json; done

gpu-check: setup  ## what only a GPU can show, kept in benchmarks/results (ten minutes; make setup DEVICE=gpu first)
	@$(BIN)/python -m benchmarks.gpu_check --save benchmarks/results/gpu_check.json

lint: setup  ## ruff, mypy, notebooks stored without outputs
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

docs: setup  ## the documentation as a site, docs/_build/index.html; a link that leads nowhere is an error
	@$(BIN)/python -m sphinx -n -W --keep-going -q docs docs/_build && echo 'made: docs/_build/index.html'

lab: setup  ## JupyterLab, with notebooks/quickstart.ipynb open and the notebooks of runs/ at hand
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/quickstart.ipynb

locks:  ## remake requirements/*.lock from pyproject.toml
	@$(PYTHON) -m venv build/locks && build/locks/bin/python -m pip install --quiet uv
	@compile="build/locks/bin/uv pip compile pyproject.toml --quiet --python-version 3.11 --no-annotate --extra smol --extra dev \
	  --override requirements/overrides.txt --custom-compile-command 'make locks'"; \
	eval "$$compile --extra cpu --override requirements/overrides-cpu.txt --universal -o requirements/cpu.lock" && \
	eval "$$compile --extra gpu --universal -o requirements/gpu.lock"

clean:  ## remove the environment and caches; runs and figures stay
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis or1lab.egg-info
