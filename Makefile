# Two commands from a fresh clone: `make demo`, then `make test`.

PYTHON ?= $(firstword $(foreach v,python3.12 python3.11 python3.10 python3,$(shell $(v) -c "import sys, ensurepip; print('$(v)') if (3, 10) <= sys.version_info < (3, 13) else None" 2>/dev/null | grep -v None)))
BIN := .venv/bin
STAMP := .venv/.complete

.PHONY: setup demo test lint clean

setup: $(STAMP)  ## everything for development, training and benchmarking, in .venv

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.12 with venv found: install python3-venv, or set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[train,bench,dev]'
	@# Its metadata pins old releases of torch, numpy and pillow; it works with current ones.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'facenet-pytorch>=2.6,<2.7'
	touch $@

demo: $(STAMP)  ## compress a real face and show what came of it
	$(BIN)/python benchmarks/demo.py

test: $(STAMP)  ## lint and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build dist
