# Everything one does with a checkout; `make help` lists it. Needs make and Python 3.11 or newer with venv, nothing else.
#
#   make demo                      set up .venv and run the demonstration
#   make demo PYTHON=python3.12    the same with another interpreter
#   make test JOBS=0               run the tests one after the other, in one process

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/reference/*.ipynb)

# A kernel of the same name elsewhere on the machine must not be taken for the one in .venv.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without bytecode each process of the tests compiles all of them first: 23 seconds of its processor time instead of 7.
unexport PYTHONDONTWRITEBYTECODE

# Each cell of a notebook is a test: it must run, and show again what is committed.
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=60 --nbval-sanitize-with=tests/nbval_sanitize.cfg

# The tests of one file, or the cells of one notebook, stay together and in order, whichever process runs them; the files
# are dealt out in the order that tests/conftest.py gives them. There is one process more than there are processors, as tests
# of clusters wait more than they compute.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
SPLIT := --numprocesses=$(JOBS) --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

# What takes long to be imported, and is not needed.
WITHOUT := PYTHONPATH="$(CURDIR)/tests/without$${PYTHONPATH:+:$$PYTHONPATH}"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo lab test jstypes lint format types unit notebooks pictures docs binder-check bench wheel clean distclean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## set up .venv (package, console script, Jupyter kernel) and run the demonstration
	@$(BIN)/raftoral-nb demo

lab: $(VENV)/.installed-demo ## open JupyterLab on the course's index (as root: LAB_FLAGS=--allow-root)
	$(BIN)/jupyter lab --ServerApp.root_dir='$(CURDIR)/notebooks' \
		--LabApp.default_url=/lab/tree/00_index.ipynb $(LAB_FLAGS)

# The checks go on after a failure, so that one call shows everything there is to mend; pytest's summary comes last.
test: $(VENV)/.installed-test ## run every check and test: ruff, mypy, pytest, the notebooks, the browser
	@failed=0; \
	echo '== ruff check'; $(BIN)/ruff check . || failed=1; \
	echo '== ruff format --check'; $(BIN)/ruff format --check . || failed=1; \
	echo '== mypy'; $(BIN)/mypy || failed=1; \
	[ $$failed -eq 0 ] || echo '== A check above failed. The tests follow, and make will fail whatever they say.'; \
	echo '== pytest'; $(WITHOUT) $(BIN)/python -m pytest $(SPLIT) --durations=10 $(NBVAL) tests $(NOTEBOOKS) || failed=1; \
	exit $$failed

lint: $(VENV)/.installed-test ## run ruff (no changes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test ## run mypy, strict
	$(BIN)/mypy

unit: $(VENV)/.installed-test ## run the tests that are quick: no wheel, browser or notebooks
	$(BIN)/python -m pytest $(SPLIT) -m 'not browser and not wheel and not notebooks' tests

jstypes: ## check the types of the view's JavaScript (needs tsc: apt-get install node-typescript)
	tsc --project tests/js

format: $(VENV)/.installed-test ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.installed-test ## run the notebooks and write their outputs (no widget state, no times)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.kernel_name=python3 \
		--ExecutePreprocessor.store_widget_state=False \
		--ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(BIN)/jupyter nbconvert --to notebook --inplace --coalesce-streams $(NOTEBOOKS)

pictures: $(VENV)/.installed-test ## take README's pictures of the live view anew (needs a Chromium)
	$(BIN)/python -m tests.browser.pictures docs

docs: $(VENV)/.installed-test ## write docs/reference.md, and README's links to Binder
	@$(BIN)/python -m tests.docs.write

binder-check: $(VENV)/.installed-test ## do what Binder does with binder/, without Docker (downloads; needs a Chromium)
	$(BIN)/python -m tests.browser.binder

# Sides that are not there are set up in ~/.cache, which takes some minutes the first time; all of it takes an hour or more.
BENCH_FLAGS ?= --rounds 3
bench: $(VENV)/.installed-demo ## measure this build beside the one before and beside others, and draw the picture of docs/measured.md
	$(BIN)/python -m benchmarks.counts
	$(BIN)/python benchmarks/run.py --json benchmarks/latest.json --svg docs $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.stall

wheel: $(VENV)/.installed-test ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove what tools left behind
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find raftoral_nb kernel_ext tests benchmarks notebooks \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## the same, and .venv
	rm -rf $(VENV)

# --- How .venv is made. Stamps inside it say what was done, so that removing it forgets them too. --------------------

define install
	@echo "Installing raftoral-nb[$(1)] into $(VENV); the first time takes a minute or two ..."
	@$(BIN)/python -m pip install --quiet --editable '.[$(1)]'
	@$(BIN)/python -m ipykernel install --sys-prefix --name raftoral-nb --display-name 'Python (raftoral-nb)' >/dev/null
endef

$(VENV)/.installed-demo: $(VENV)/.made pyproject.toml
	$(call install,demo)
	@touch $@

# The extra `test` contains `demo`.
$(VENV)/.installed-test: $(VENV)/.made pyproject.toml
	$(call install,test)
	@touch $(VENV)/.installed-demo $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here. raftoral-nb needs Python 3.11 or newer: install it," \
			"or name it, as in: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "raftoral-nb needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name a newer one, as in: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
