# Two commands do everything on a fresh machine: `make study`, `make test`.
PYTHON ?= python3
WORKDIR ?= runs/finetune
# Files of tests at once; the long ones, which come first, need 2 GB each.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# As a run does by itself: pages of large temporary arrays are kept.
MALLOC := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296

.PHONY: study test lint docs env clean

study: env
	$(BIN)/python -m cmbjax.main --config=configs/finetune.py --workdir=$(WORKDIR)

test: $(VENV)/.all
	$(MALLOC) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# Warnings are errors; nothing is looked up in the network.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W -q -b html docs build/docs

env: $(VENV)/.ready

# The stamp is newer than what it was made from only after a full install.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cmbjax needs Python 3.11 or newer; call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# Every extra that a test needs: the notebooks' (docs), DICOM, Beam, validators.
$(VENV)/.all: $(VENV)/.docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[beam,dicom,validate]'
	@touch $@

clean:
	rm -rf $(VENV) runs build docs/generated
