# One command per need. On a fresh Debian 12 or newer, as root or with sudo, each installs what it lacks:
# Debian packages by .ci/system, Python packages into .venv. When all is there that takes no time.

# One that is new enough and was built to be fast; another by: make PYTHON=…
ifndef PYTHON
PYTHON := $(shell .ci/python)
endif
# Processes of the test suite: more than processors, for the tests of whole commands wait most of their time.
JOBS ?= $(shell echo $$(($$(nproc) * 3 / 2)))

bin := .venv/bin
c_sources := $(shell find cache mirror -name '*.c' -o -name '*.h')
# Mounting takes root; without it the tests run through sudo.
as_root := $(if $(filter 0,$(shell id -u)),,sudo -E)

.PHONY: help venv demo test check bench sanitize powercut fuzz soak-model soak clean

help:
	@echo 'make demo      mount a sample data set, read it cold and warm, show the difference'
	@echo 'make test      run the test suite'
	@echo 'make check     lint, check types, build the C part with warnings as errors'
	@echo 'make bench     measure against native files and curl; writes bench.json'
	@echo 'make sanitize  run the C part under AddressSanitizer and ThreadSanitizer'
	@echo 'make powercut  simulate 20,000 power cuts (make test: 500)'
	@echo 'make fuzz      1,000,000 listings, headers and answers that no server should send (make test: 20,000)'
	@echo 'make soak-model  10,000 random sequences against a reference, 200 full disks; about half an hour'
	@echo 'make soak      all that is long: 1,000 kills, 100,000 opens that race, the two above'
	@echo 'make venv      only install'
	@echo 'make clean     remove what was built'

venv: .venv/.installed

# Again whenever the dependencies or the C part change; an editable install, so Python changes need nothing.
.venv/.installed: pyproject.toml $(c_sources)
	@PYTHON='$(PYTHON)' .ci/system build
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mirror needs Python 3.11 or newer; name one by: make PYTHON=…")'
	@test -x $(bin)/python || $(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/.installed
	$(bin)/python examples/demo.py

test: .venv/.installed
	@PYTHON='$(PYTHON)' .ci/system test
	@.ci/azurite
	$(as_root) $(bin)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: .venv/.installed
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	MYPYPATH=examples $(bin)/mypy examples/*.py
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	CFLAGS='-Werror' $(bin)/python -W ignore -c 'import setuptools; setuptools.setup()' -q \
	    build_ext --force --build-temp "$$folder" --build-lib "$$folder" && echo 'C part: no warnings'
	@! grep -rnE 'pytest\.(mark\.)?(skip|xfail)' tests --include='*.py' || { echo 'A test that is skipped proves nothing.'; exit 1; }
	@find cache mirror tests examples -name '*.[ch]' -o -name '*.py' | xargs wc -l | \
	    awk '$$1 > 600 && $$2 != "total" { print $$2 " has " $$1 " lines: several ideas?"; bad = 1 } END { exit bad }'

bench: .venv/.installed
	@PYTHON='$(PYTHON)' .ci/system test
	$(as_root) $(bin)/python -m tests.bench --json bench.json $(ARGS)

sanitize: .venv/.installed
	$(as_root) $(bin)/python -m pytest tests/channel $(ARGS)

powercut: .venv/.installed
	$(bin)/python -m tests.powercut.soak --jobs $(JOBS) $(ARGS)

# How many, and another SEED for others.
INPUTS ?= 1000000
fuzz: .venv/.installed
	$(bin)/python -m tests.fuzz.run $(INPUTS) $(SEED)

# Another SEED gives other sequences, the same one the same.
SEED ?= 1
soak-model: .venv/.installed
	$(as_root) $(bin)/python -m tests.model.run 10000 $(SEED)
	@for kind in tmpfs ext4 xfs btrfs inodes quota; do \
	    folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && echo "50 disks that become full: $$kind" && \
	    $(as_root) $(bin)/python -m tests.support.namespace \
	        $(bin)/python -m tests.cache.full_engine $$kind "$$folder" 50 $(SEED) || exit 1; \
	done

soak: powercut soak-model
	$(as_root) MIRROR_KILLS=1000 $(bin)/python -m pytest -q tests/kills
	$(as_root) MIRROR_OPENS=100000 $(bin)/python -m pytest -q tests/e2e/test_race.py

clean:
	rm -rf .venv build dist *.egg-info bench.json .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mirror cache tests examples -name __pycache__ -prune -exec rm -rf {} +
	find cache mirror -name '*.so' -delete
