# The two commands of the README are `make demo` and `make test`. Both make the environment first where there is none.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install demo test lint types bench tiny-model clean

install: $(BIN)/.installed

# torch first: with none installed, a plain requirement may pull the CUDA build on a machine that cannot use it.
$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch==2.13.0"
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

demo: install
	$(BIN)/thinkedit run

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/generation.py

tiny-model: install
	$(BIN)/python -m thinkedit.tiny.train --out src/thinkedit/tiny/model

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
