# make quickstart   set up and train the multiplier that answers in its head
# make test         set up and run the tests
# make check        lint, format, types, spelling
# make bench        speed, beside a bare loop; BENCH="--official PATH" adds the official code (benchmarks/README.md)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-slow check bench format install clean

quickstart: install
	$(BIN)/tacit run recipes/quickstart.yaml --resume

test: install
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check src
	$(BIN)/codespell src tests docs recipes examples benchmarks README.md CONTRIBUTING.md Makefile

bench: install
	$(BIN)/python -m benchmarks $(BENCH)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'tacit needs Python 3.11 or newer; try: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
