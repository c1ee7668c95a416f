# Everything here lives in one virtual environment, .venv; stamps in it keep a thing from being installed twice.

PYTHON ?= python3
export PYTHON

VENV    := .venv
BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RECIPE  := pyproject.toml $(wildcard experiments/*/pyproject.toml) constraints.txt

# The really noisy recording that the demo enhances and draws.
RECORDING := examples/real/2609-156975-0004.flac

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format types bench clean
.DELETE_ON_ERROR:

help: ## Show this list
	@echo "Sotto voce: speech enhancement that learns from the recordings people have."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

demo: $(VENV)/.installed-metrics ## Enhance bundled recordings, score and plot them; results in demo/
	@rm -rf demo && mkdir demo
	@echo "== A real noisy recording: $(RECORDING)"
	$(BIN)/sottovoce enhance $(RECORDING) -o demo/enhanced
	$(BIN)/sottovoce plot $(RECORDING) demo/enhanced/$(notdir $(RECORDING)) -o demo/before_after.png
	@echo "== Recordings whose clean version is known, with scores"
	$(BIN)/sottovoce enhance examples/pairs/noisy -o demo/pairs
	$(BIN)/sottovoce evaluate --reference examples/pairs/clean --estimate demo/pairs \
	    --unprocessed examples/pairs/noisy -o demo/scores
	@echo
	@echo "Listen:  $(RECORDING)  (before)"
	@echo "         demo/enhanced/$(notdir $(RECORDING))  (after)"
	@echo "Look:    demo/before_after.png"
	@echo "Compare: demo/pairs/ with examples/pairs/clean/ and examples/pairs/noisy/; scores in demo/scores/"

# Two processes of one thread each: files of tests stay together, since they share trained systems. Both targets share
# the graphs of exported networks, which the first one traces: it begins with an empty cache, so that all are traced.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=20 --cov

test: lint types ## Run the checks and the tests, but for the slow ones
	@echo "== Tests, without the slow ones: six minutes on two cores"
	@$(PYTEST) -m "not slow" --cache-clear --cov-report=

test-slow: $(VENV)/.installed-dev ## Run the slow tests, after make test; coverage of all tests
	@echo "== Slow tests (trainings, exports, real kills): seven minutes on two cores; coverage of all tests"
	@$(PYTEST) -m slow --cov-append --cov-report=term $$(grep -rl --include='test_*.py' 'mark\.slow' tests experiments/*/tests)

lint: $(VENV)/.installed-dev ## Check style and formatting (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev ## Check types (mypy, strict)
	$(BIN)/mypy

bench: $(VENV)/.installed-dev ## Measure speed and memory; results in benchmarks/results/
	@for script in benchmarks/speed.py benchmarks/memory.py benchmarks/full_band.py benchmarks/fidelity.py benchmarks/install.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove what was made here: .venv, demo/, build results and caches
	rm -rf $(VENV) demo build dist .coverage htmlcov coverage.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: please install Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$$($(PYTHON) --version) is too old: Sotto voce needs Python 3.11 or newer." >&2; \
	    echo "Name another one like this: make PYTHON=python3.12 demo" >&2; exit 1; }
	@.ci/system-packages.sh venv
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make virtual environments: please install its venv package (python3-venv)." >&2; exit 1; }

$(VENV)/.installed-core: $(VENV)/pyvenv.cfg $(RECIPE)
	@echo "Installing Sotto voce in $(VENV): about 200 MB on disk, half a minute to two minutes ..."
	@$(INSTALL) -e .
	@touch $@

# The package pesq is built from source. Where that fails, all other measures are installed and PESQ is "undefined".
$(VENV)/.installed-metrics: $(VENV)/.installed-core $(RECIPE)
	@echo "Installing the measures (extra: metrics): about 600 MB more on disk, one to four minutes ..."
	@$(INSTALL) -e '.[metrics]' 2>$(VENV)/metrics.log || { \
	    echo "Not all measures can be installed (see $(VENV)/metrics.log); PESQ, which needs a C compiler, is left out."; \
	    $(BIN)/python -c 'import tomllib; \
	        extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	        print(*(line for line in extras["metrics"] if not line.startswith("pesq")), sep="\n")' \
	        >$(VENV)/metrics.txt && \
	    $(INSTALL) -r $(VENV)/metrics.txt; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/pyvenv.cfg $(RECIPE)
	@.ci/system-packages.sh compiler ffmpeg chromium
	@echo "Installing everything that developing needs in $(VENV) (extra: dev): about 2 GB on disk, two to ten minutes ..."
	@$(INSTALL) -e '.[dev]' -e experiments/sspd2023 -e experiments/images
	@touch $@ $(VENV)/.installed-core $(VENV)/.installed-metrics
