# Everything goes through .venv, which `make` builds on first use. Override PYTHON to use another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Bytecode that is written once saves every process of the tests its seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench campaign sanitize docs clean

demo: $(STAMP)
	$(BIN)/ddarts run --data digits --preset demo

# Two processes, each with whole files: module fixtures are made once. In the order of the folders: xdist would begin with
# the files of many tests and end with those of few long ones, when the other process has nothing left to do.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

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
	$(BIN)/python -m benchmarks.campaign --out campaign

# The kernels' tests with a build that checks every access to memory and every undefined operation. Python keeps memory until
# it ends, which is no leak.
SANITIZED := $(VENV)/sanitized
CHECKS := -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
sanitize: $(STAMP)
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r src tests setup.py pyproject.toml $(SANITIZED)
	cd $(SANITIZED) && CFLAGS="$(CHECKS)" LDFLAGS="$(CHECKS)" ../bin/python setup.py build_ext --inplace --force
	cd $(SANITIZED) && PYTHONPATH=src LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 ../bin/python -m pytest -q -p no:xdist tests/kernels tests/nn/test_fused_cell.py -k "not fewer_threads and not registered"

# Every package, and the modules beside them that a caller may need; a package brings its modules along.
DOCUMENTED := ddarts ddarts.api ddarts.cli ddarts.config ddarts.cost ddarts.data ddarts.deploy ddarts.errors ddarts.experiments ddarts.genotype ddarts.hub ddarts.kernels \
	ddarts.nn ddarts.pipeline ddarts.preflight ddarts.reporting ddarts.results ddarts.runs ddarts.runtime ddarts.searching ddarts.space \
	ddarts.supernet ddarts.testing ddarts.training

# The builds of the kernels look like modules, and are none.
docs: $(STAMP)
	$(BIN)/python -m pdoc --docformat google --output-directory site $(DOCUMENTED) '!ddarts.kernels._'

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard src/ddarts/kernels/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV)
