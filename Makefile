# make run    install, then search with the default budget of 200 evaluations
# make quick  install, then run every check, and the tests that start no process and train nothing: within a minute
# make test   install, then run every check and test
# make mutation   seed faults in a copy, one at a time, and see that the quick tests notice each; ARGS=NAME tries one
# make tools  install, with apt-get, the programs that characterise multipliers; without them tests of circuits are skipped
# make bench-arithmetic   time approximate arithmetic against torch's; ARGS="--json FILE" also writes a file
# make bench-approximation   time conversion, fault injection and evaluation over chips
# make bench-energy   time the energy model
# make bench-sampling   how much samplers find on a synthetic space, about 10 minutes
# make bench-searches ARGS=digits   what a search of a real task takes; others are in benchmarks/README.md
# make replicate   published results on the building blocks, for docs/replications.md; says beforehand how long it takes
# make bit-errors   train a CIFAR-10 network and show what bit errors cost it and what mends it: about an hour
# All are safe to repeat; the second time nothing is installed.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := approx benchmarks docs energy search service tests

CIRCUIT_TOOLS := yosys iverilog qflow-tech-osu018
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: run quick test mutation check format tools bench-arithmetic bench-approximation bench-energy bench-sampling bench-searches bit-errors replicate clean

run: .venv/installed
	$(BIN)/search run --budget 200

# Two processes of one thread each take little more than half of the time of one.
quick: check
	OMP_NUM_THREADS=1 $(BIN)/pytest --quiet --numprocesses 2 -m "not slow and not process"

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

mutation: .venv/installed-test
	$(BIN)/python -m tests.mutation $(ARGS)

check: .venv/installed-test
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# torch goes first: with a torch of the right version in place, nothing that follows replaces it by another build.
.venv/installed: pyproject.toml $(wildcard approx/csrc/*) | .venv/bin/pip
	$(BIN)/pip install "torch>=2.13,<2.14"
	$(BIN)/pip install --editable .
	touch $@

.venv/installed-test: pyproject.toml .venv/installed
	$(BIN)/pip install --editable ".[test]"
	touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'crosslayer needs Python 3.11 or newer; name one with: make PYTHON=python3.11'; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo 'The venv module is incomplete; on Debian: apt-get install python3-venv'; exit 1; }

tools:
	@dpkg --status $(CIRCUIT_TOOLS) >/dev/null 2>&1 \
		|| { $(SUDO) apt-get update --quiet && $(SUDO) apt-get install --yes --no-install-recommends $(CIRCUIT_TOOLS); }

bench-arithmetic: .venv/installed
	$(BIN)/python -m benchmarks.arithmetic $(ARGS)

bench-approximation: .venv/installed
	$(BIN)/python -m benchmarks.approximation $(ARGS)

bench-energy: .venv/installed
	$(BIN)/python -m benchmarks.energy

bench-sampling: .venv/installed
	$(BIN)/python -m benchmarks.sampling $(ARGS)

bench-searches: .venv/installed
	$(BIN)/python -m benchmarks.searches $(ARGS)

bit-errors: .venv/installed
	$(BIN)/python -m benchmarks.bit_errors $(ARGS)

replicate: .venv/installed
	$(BIN)/python -m benchmarks.replications $(ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
