# The project's commands. Each installs what it needs into .venv, from hashed locks, once. The work
# itself is done by the Python code.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity
PEERS := .venv-peers

# PYTHON on the command line: if .venv was created with another Python, recreate it.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version)' 2>/dev/null),$(shell cat $(VENV)/made-by 2>/dev/null))
OTHER_PYTHON := other-python
endif
endif

MARKED := slow or parity or browser
IN_VENV := slow or browser
# One process per core; all tests of a file run in one process, so that its fixtures run once.
PARALLEL := -n auto --dist loadfile
PYTEST := $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_FLAGS)
SOURCES := fer_jax tfds_builders configs tests tools docs launch benchmarks
SHELL_SCRIPTS := .ci/run $(wildcard benchmarks/*.sh requirements/*.sh launch/*.sh launch/*.sbatch)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
  -c requirements/constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev setup-check demo test check check-marked parity benchmark lint types format lock upgrade \
  docs wheel clean other-python

help:  ## Print this list.
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1:/' \
	  | awk -F: '{ printf "  %-14s %s\n", $$1, substr($$0, length($$1) + 2) }'

demo: setup  ## Train, evaluate and report on the embedded synthetic faces, into runs/demo; read a photo.
	$(BIN)/fer-jax train --config configs/demo.py
	@echo; echo "The model that comes with fer_jax reads a rendered photo:"
	$(BIN)/fer-jax predict fer_jax/serve/examples/1_happiness.jpg
	@echo "Your own: $(BIN)/fer-jax predict photo.jpg"

test: setup-dev  ## Run the fast tests; report what they skip and leave to `make check`.
	$(PYTEST) -m "not ($(MARKED))"

check: setup-check  ## Run every test, slow, browser and parity ones too; a skipped test is a failure.
	$(PYTEST) --no-skips -m "not parity"
	$(MAKE) parity

check-marked: setup-check  ## Run the slow and browser tests, which `make test` leaves out.
	$(PYTEST) --no-skips -m "($(IN_VENV)) and not parity" || [ $$? -eq 5 ]  # 5: no test is marked

parity: $(PARITY)/stamp  ## Compare with Keras, PyTorch, timm, dlib and LiteRT, in .venv-parity.
	$(PARITY)/bin/python -m pytest $(PYTEST_FLAGS) --no-skips -m parity tests/parity

benchmark: $(PEERS)/stamp  ## Measure speed beside PyTorch, Keras, TensorFlow and ONNX Runtime; select with BENCHMARK_FLAGS.
	$(BIN)/python -m benchmarks.speed $(BENCHMARK_FLAGS)
	$(BIN)/python -m benchmarks.speed.table

lint: setup-dev  ## Check style (ruff) and shell scripts (shellcheck).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck $(SHELL_SCRIPTS)

types: setup-dev  ## Check types (mypy).
	$(BIN)/mypy

format: setup-dev  ## Reformat the sources.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup-dev  ## Update requirements/*.lock to pyproject.toml, changing no more than needed.
	$(COMPILE) --group build -o requirements/build.lock
	$(COMPILE) -c requirements/build.lock pyproject.toml -o requirements/run.lock
	$(COMPILE) -c requirements/run.lock --extra rest pyproject.toml -o requirements/rest.lock
	$(COMPILE) -c requirements/run.lock -c requirements/rest.lock --extra dev pyproject.toml -o requirements/dev.lock
	$(COMPILE) -c requirements/dev.lock --extra check pyproject.toml -o requirements/check.lock
	$(COMPILE) -c requirements/check.lock -c requirements/dev.lock --extra docs pyproject.toml \
	  -o requirements/docs.lock
	$(COMPILE) -c requirements/dev.lock --overrides requirements/parity-overrides.txt \
	  requirements/parity.in -o requirements/parity.lock
	$(COMPILE) -c requirements/check.lock -c requirements/parity.lock \
	  --overrides requirements/peers-overrides.txt requirements/peers.in -o requirements/peers.lock

upgrade:  ## Lock the newest versions that pyproject.toml admits.
	$(MAKE) lock COMPILE='$(COMPILE) --upgrade'

docs: $(VENV)/docs.stamp  ## Build the documentation site into site/; a warning is a failure.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel: setup-dev  ## Build the wheel and the source archive into dist/.
	$(BIN)/python -m hatchling build

clean:  ## Remove .venv, .venv-parity, .venv-peers, caches and build products; runs/ and data/ remain.
	rm -rf $(VENV) $(PARITY) $(PEERS) dist build site .pytest_cache .mypy_cache .ruff_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(VENV)/run.stamp  ## Create .venv with what running needs.
setup-dev: $(VENV)/dev.stamp  ## Create .venv with what testing and developing need.
setup-check: $(VENV)/check.stamp  ## Add to .venv what make check needs: ONNX, gradio, the Hub's and buckets' clients, Ray, Selenium.

$(VENV)/run.stamp: requirements/build.lock requirements/run.lock pyproject.toml $(OTHER_PYTHON)
	@PYTHON="$(PYTHON)" NEW_VENV="$(OTHER_PYTHON)" sh requirements/install.sh run

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.lock
	@sh requirements/install.sh dev

$(VENV)/check.stamp: $(VENV)/dev.stamp requirements/check.lock
	@sh requirements/install.sh check

$(VENV)/docs.stamp: $(VENV)/dev.stamp requirements/docs.lock
	@sh requirements/install.sh docs

$(PARITY)/stamp: $(VENV)/dev.stamp requirements/parity.lock requirements/install_parity.sh
	@sh requirements/install_parity.sh

$(PEERS)/stamp: $(PARITY)/stamp requirements/peers.lock requirements/install_peers.sh
	@sh requirements/install_peers.sh
