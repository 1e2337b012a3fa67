# Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow lint install clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	touch $@

demo: install
	$(BIN)/anowild demo -o demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Two processes of one thread each: files are dealt out whole, as many share a trained model.
test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=

test-slow: install
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv demo build dist
