# Everything goes through .venv, which `make` builds on first use. Override PYTHON to use another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench campaign docs clean

demo: $(STAMP)
	$(BIN)/ddarts run --data digits --preset demo

# Two processes, each with whole files: module fixtures are made once.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/python benchmarks/search_step.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/network_step.py

# Takes many hours; continues where it was stopped.
campaign: $(STAMP)
	$(BIN)/python benchmarks/campaign.py --out campaign

# Every package, and the modules beside them that a caller may need; a package brings its modules along.
DOCUMENTED := ddarts ddarts.api ddarts.cli ddarts.config ddarts.cost ddarts.data ddarts.deploy ddarts.errors ddarts.experiments ddarts.genotype ddarts.hub ddarts.kernels \
	ddarts.nn ddarts.pipeline ddarts.preflight ddarts.reporting ddarts.results ddarts.runs ddarts.runtime ddarts.searching ddarts.space \
	ddarts.supernet ddarts.testing ddarts.training

# The builds of the kernels look like modules, and are none.
docs: $(STAMP)
	$(BIN)/python -m pdoc --docformat google --output-directory site $(DOCUMENTED) '!ddarts.kernels._'

$(STAMP): pyproject.toml setup.py $(wildcard src/ddarts/kernels/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV)
