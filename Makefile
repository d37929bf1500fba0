# make demo · make test · make test-fast · make lint · make docs · make bench; each installs what it
# needs into .venv first, and make .venv all of it.
PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e
PROGRAMS = .venv/programs-installed
ALL = .venv/all-installed

.PHONY: .venv demo test test-fast lint docs bench

$(PROGRAMS): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[train]'
	touch $@

$(ALL): $(PROGRAMS)
	$(INSTALL) '.[test]'
	touch $@

.venv: $(ALL)

demo: $(PROGRAMS)
	$(BIN)/python -m pipelines.fetch crowdflower
	$(BIN)/python -m pipelines.train --data_dir data/crowdflower --preset best --run_name demo
	$(BIN)/python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline
	$(BIN)/python -m pipelines.score --checkpoints_dir checkpoints/demo \
		--input data/crowdflower/shards --output scored-demo --keep_columns id text label --show_samples

# Two processes: with three, several Rays start at once, and one may miss its limit of 30 seconds.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv
	$(PYTEST)

# What needs no other process, so no Ray either, and no network.
test-fast: .venv
	$(PYTEST) -m "not process and not registry"

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The documentation as a site, in site/. A link that leads nowhere is an error, but not with --quiet.
docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv
	$(BIN)/python -m benchmarks.tokenize
	$(BIN)/python -m benchmarks.kernel
	@echo "The others, for texts, labels or a checkpoint of yours: docs/benchmarks.md, docs/scaling.md"
