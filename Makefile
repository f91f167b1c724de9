# Every target sets up its own virtual environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo cluster test check format bench serve clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/manymodels demo

# PostgreSQL, Consul, an S3 server and every service as processes of this machine, with the demo's fleets.
cluster: $(STAMP)
	$(BIN)/python -m deploy.local

test: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/contract tests/integration --numprocesses auto
	$(BIN)/python -m pytest tests/acceptance -m "not alone" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest tests/acceptance -m alone

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

serve: $(STAMP)
	$(BIN)/manymodels serve --home manymodels-home

clean:
	rm -rf $(VENV) build dist *.egg-info
