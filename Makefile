# Two commands from a fresh clone: `make demo`, then `make test`.

comma := ,

# The first Python that has what it takes; CompressAI has no wheels beyond 3.12, so later ones do without training.
usable = $(shell $(1) -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info < (3, $(2)))' 2>/dev/null && echo $(1))
first = $(firstword $(foreach python,python3 python3.12 python3.11 python3.10 python3.13,$(call usable,$(python),$(1))))
PYTHON ?= $(or $(call first,13),$(call first,14))
EXTRAS := $(if $(call usable,$(PYTHON),13),train$(comma))bench$(comma)url$(comma)ray$(comma)formats$(comma)dev
BIN := .venv/bin
STAMP := .venv/.complete
LIGHT := .venv/.light
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help setup demo test results fuzz web docs man wheel lint clean

help:  ## what there is
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/    make \1\t\2/p' Makefile | expand -t 20

setup: $(STAMP)  ## everything for development, training and benchmarking, in .venv

$(LIGHT): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10+ with venv: apt install python3-venv, or set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e '.[demo]'
	touch $@

$(STAMP): $(LIGHT)
	@test -n "$(findstring train,$(EXTRAS))" || echo "make: training needs Python 3.10 to 3.12; setting up without it" >&2
	$(INSTALL) -e '.[$(EXTRAS)]'
ifneq ($(findstring train,$(EXTRAS)),)
	@# Its metadata pins old releases of torch, numpy and pillow; it works with current ones.
	$(INSTALL) --no-deps 'facenet-pytorch>=2.6,<2.7'
endif
	touch $@

demo: $(LIGHT)  ## compress a real face and show what came of it
	$(BIN)/python benchmarks/demo.py

test: $(STAMP)  ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

MODELS := l2-ipr l2-ip
Q := 1,2,3,4,5,6
LIMIT := 1000
BENCH = $(BIN)/facecodec bench
ALL := $(foreach model,$(MODELS),--model $(model):$(Q))

results: $(STAMP)  ## measure 1,000 photographs (or LIMIT=3708, all), hours from scratch; write docs/results.md and docs/budget.md
	$(BENCH) --dataset lfw --limit $(LIMIT) --codec hevc:23,28,33,38 --codec jpeg:8,15,22,30 --codec webp:1,10,30,50 --codec jpeg2000:160,80,40,28 $(ALL) --resume -o build/lfw
	$(BENCH) speed --limit 40 --repeats 3 --codec hevc --codec jpeg --codec webp --codec avif --codec jpeg2000 --codec jpegxl --resume -o build/speed
	$(BENCH) report build/lfw/results.json build/speed/results.json -o build/report
	$(BENCH) identify --find-again --limit $(LIMIT) --codec hevc:23 --model l2-ipr:4 --resume -o build/again
	$(BENCH) budget --limit $(LIMIT) --codec jpeg --codec hevc --codec webp --codec avif --codec jpeg2000 --codec jpegxl --model l2-ipr --model l2-ip --resume -o build/budget
	{ sed 's|(curves.png)|(images/curves.png)|; s|^# .*|# Results|' build/report/results.md; \
	  sed '/curves.png/,+1d; s|^# .*|# Faces found again|; s|^#|##|' build/again/results.md; } > docs/results.md
	sed '/curves.png/,+1d; s|^# .*|# Within 1,024 bytes|' build/budget/results.md > docs/budget.md
	cp build/report/curves.png docs/images/curves.png

fuzz: $(STAMP)  ## a million hostile files and a hundred thousand hostile models, an hour
	$(BIN)/python tests/fuzz/fuzz.py -runs=1000000
	$(BIN)/python tests/fuzz/fuzz_models.py -runs=100000

web:  ## pack the decoder for browsers into facecodec/web, with npm
	cd web && npm ci --no-audit --no-fund && npm run check && npm run build

docs: $(STAMP)  ## the documentation as a site, in build/site
	$(BIN)/mkdocs build --strict -d build/site

man: $(STAMP)  ## manual pages of the commands, in build/man, for packages of distributions
	$(BIN)/python docs/man.py build/man

wheel: $(STAMP)  ## build the wheel and try it under every Python that is here
	rm -rf build/wheel
	$(BIN)/python -m build --wheel -o build/wheel
	$(BIN)/python benchmarks/wheel.py build/wheel/*.whl $(foreach minor,10 11 12 13,$(call usable,python3.$(minor),14))

lint: $(STAMP)  ## mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove all that these commands made
	rm -rf .venv demo build dist
