# Every target does its own set-up: a virtual environment in .venv, installed from the lock, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

LOWEST := .venv-lowest

.PHONY: setup demo test test-slow test-compose test-lowest check docs lock clean

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(INSTALLED)
	$(BIN)/plasticbench run configs/demo_digits.yaml --out runs/demo_digits
	$(BIN)/plasticbench run configs/demo_bandit.yaml --out runs/demo_bandit

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not slow and not compose"

# What starts a Ray of its own runs alone, the rest two at a time.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "slow and not ray"
	$(BIN)/python -m pytest -m "slow and ray"

# The compose cluster in containers, for an hour at most: needs Docker with its compose plugin, and root.
test-compose: $(INSTALLED)
	$(BIN)/python -m pytest -m compose -s

# The lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/requirements.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -r $(LOWEST)/requirements.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	$(LOWEST)/bin/python -m pytest -n 2 -m "not slow and not compose" -W ignore::DeprecationWarning  # of old libraries by new ones

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/settings.py --check
	$(BIN)/python docs/methods.py --check
	$(BIN)/python docs/results.py --check
	$(BIN)/python docs/check.py

docs: $(INSTALLED)
	$(BIN)/python docs/settings.py
	$(BIN)/python docs/methods.py
	$(BIN)/python docs/results.py

lock: $(INSTALLED)
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) $(LOWEST) runs build *.egg-info
