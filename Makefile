# Everything runs inside .venv, which these targets make and fill.
PYTHON ?= python3
# Waiting threads sleep: spinning ones stall small networks on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE
BIN := .venv/bin

.PHONY: demo test test-slow fuzz faults lint checkpoints figures docs bench clean

demo: .venv/.installed
	$(BIN)/landscape demo --out out/demo --overwrite

test: .venv/.tested-with lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not gpu and not slow and not fuzz"

# What takes minutes: AutoAttack on every bundled checkpoint, stated against measured memory.
test-slow: .venv/.tested-with
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

# 500 hostile inputs of every kind; the figures go into docs/faults.md.
fuzz: .venv/.tested-with
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fuzz tests/test_fuzz.py

# Every fault into every command, an hour on one core; then the table in docs/faults.md.
faults: .venv/.tested-with
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m faults --page docs/faults.md

lint: .venv/.tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The bundled checkpoints, trained from their recipes and attacked; those that are there are kept.
checkpoints: .venv/.installed
	$(BIN)/python checkpoints/make.py

# Every figure of the papers at digits scale, what is missing of it; then the pages in docs/.
figures: .venv/.installed
	$(BIN)/landscape figure all --overwrite
	$(BIN)/python docs/figures.py

docs: .venv/.tested-with
	$(BIN)/python -m sphinx -W --keep-going -b html docs out/docs

bench: .venv/.benched-with
	$(BIN)/python -m benchmarks

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -e .
	touch $@

.venv/.tested-with: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[test]'
	touch $@

.venv/.benched-with: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[bench]'
	touch $@

clean:
	rm -rf .venv out .pytest_cache .mypy_cache .ruff_cache
