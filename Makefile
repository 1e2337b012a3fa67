# Everything happens in .venv (and .venv-*); nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip --quiet --disable-pip-version-check
# Modules are compiled when they are first imported, not all 17,000 while they are installed: a minute less. What
# forbids to keep them, as images of containers do, would have each process of a test compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow coverage browser docs lint install lock wheel release-check lowest clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install --no-compile -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/anowild demo -o demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# Two processes of one thread each: files are dealt out whole, as many share a trained model, and the longest
# first (tests/conftest.py).
test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same with the floor of branch coverage, which takes a quarter longer.
coverage: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=

# A browser for the tests of pages, where there is none; they are skipped without it. Asks for root's rights
# where libraries of the system are missing.
browser: install
	$(BIN)/python -m tests.browser || $(BIN)/python -m playwright install --with-deps chromium-headless-shell

# The documentation as a site, in build/site.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test-slow: install
	$(BIN)/python -m pytest -m slow

# The newest versions of all that pyproject.toml asks for, written to constraints.txt. Newer builds
# of PyTorch pull several GB of CUDA packages on machines that have no GPU.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP) install 'torch<2.14' -e '.[dev]'
	sed -n '/^#/p' constraints.txt > .venv-lock/constraints.txt
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >> .venv-lock/constraints.txt
	mv .venv-lock/constraints.txt constraints.txt
	rm -rf .venv-lock

# Wheel and sdist; the wheel without extras, in an environment of its own, outside the repository.
wheel: install
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python .ci/wheel.py

# Whether this commit can be released: see "Releases" in CONTRIBUTING.md.
release-check: install
	$(BIN)/python .ci/release.py

# The core's tests with the lowest versions that pyproject.toml states, on Python 3.11.
# PyTorch 2.6.0 comes as a CUDA build: about 3 GB to download.
lowest:
	rm -rf .venv-lowest
	python3.11 -m venv .venv-lowest
	python3.11 .ci/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python $(PIP) install --no-compile -c .venv-lowest/constraints.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf .venv .venv-* demo build dist
