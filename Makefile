# Everything is set up in a virtual environment of its own; each command may be run again at any time.
#
#   make run      set up and start the platform in your browser's reach: http://127.0.0.1:8000   (PORT=, DATA=)
#   make several  set up and run the platform on several nodes of this machine: https://localhost:8443   (HTTPS_PORT=)
#   make demo     set up and run the loop without a server: images -> training set -> model -> report
#   make test     set up and run the tests (30 to 50 minutes on two cores); installs Chromium if there is none
#   make faults   the tests at full size; writes docs/faults.md   (FAST=1: a quarter of an hour, without the long ones, writes nothing)
#   make fuzz     hostile files for half an hour   (SECONDS=)
#   make bench    every stage against a peer; writes benchmarks/RESULTS.md
#   make docs     the pages that are made from the code: docs/rest.md, docs/settings.md
#   make tour     the pictures of docs/tour.md, on a platform that runs   (LINK= the sign-in link that it has printed)
#   make lint     style and types

PYTHON ?= python3
VENV ?= .venv
OUT ?= axons-demo
PORT ?= 8000
DATA ?= axons-data
HTTPS_PORT ?= 8443
SECONDS ?= 1800

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Real browsers and killed processes may lose a race with a busy machine: tried once more, and told at the end.
ONCE_MORE := --reruns 1
BOTH_CORES := -n 2 --dist loadfile --no-loadscope-reorder
EXTRAS := openvino,azure,postgresql,test,lint

export RAY_USAGE_STATS_ENABLED := 0

.PHONY: run several demo test chromium azurite faults fuzz bench docs tour lint clean

run: $(VENV)/.ready
	$(BIN)/axons up --port $(PORT) --data $(DATA)

several: $(VENV)/.ready
	$(BIN)/python -m tests.cluster.several --port $(HTTPS_PORT)

demo: $(VENV)/.ready
	$(BIN)/axons demo --out $(OUT)

test: $(VENV)/.ready chromium
	$(BIN)/python -m pytest -m "not slow and not long" $(ONCE_MORE) $(BOTH_CORES) --ignore tests/browser
	$(BIN)/python -m pytest -m "not slow and not long" $(ONCE_MORE) $(BOTH_CORES) tests/browser  # not beside trainings

# Microsoft's server of the Blob API, for the tests of Azure; without it they are left out.
azurite: $(VENV)/.ready
	npm install --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.35.0

chromium: $(VENV)/.ready
	@$(BIN)/python -m tests.browser.chromium

faults: $(VENV)/.ready chromium
ifdef FAST
	$(BIN)/python -m pytest -m "slow and not long" $(ONCE_MORE) $(BOTH_CORES) tests
else
	$(BIN)/python -m pytest tests/faults tests/app tests/cluster tests/test_demo.py tests/data/test_hostile_images.py \
	  tests/data/test_decoding.py tests/data/test_archives.py tests/model/test_files.py --faults-report docs/faults.md
endif

fuzz: $(VENV)/.ready
	$(PIP) install --progress-bar on -c constraints.txt -e '.[$(EXTRAS),fuzz]'
	$(BIN)/python -m tests.faults.fuzz $(SECONDS)

bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.ready
	$(BIN)/python -m axons.app.describe docs

tour: $(VENV)/.ready chromium
	$(BIN)/python -m tests.browser.tour "$(LINK)"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "axons needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) --version 2>&1); set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments; install its venv package (on Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up in $(VENV): several GB of packages, two to ten minutes the first time ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)  # another Python over an old environment breaks it
	$(PIP) install --progress-bar on -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.ready-bench: $(VENV)/.ready
	$(PIP) install --progress-bar on -c constraints.txt -e '.[$(EXTRAS),bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
