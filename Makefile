# Each target is safe to call again: what is up to date is not done twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# a constraints file of the user's cannot widen or narrow what the lock says
export PIP_CONSTRAINT := /dev/null
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := .venv/bin/python -m pip -qq
STAMP := .venv/.stamps

.PHONY: help env compiled serve check pure test tests test-python pythons chaos mutants lint style types format release bench lock clients fuzz newest clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

env: $(STAMP)/dev ## .venv with everything from the locks (PYTHON=... chooses the interpreter)

# where Python may not write what it compiled (PYTHONDONTWRITEBYTECODE), each start would compile all anew: half a second, 6 MB
compiled: $(STAMP)/project
	@.venv/bin/python -m compileall -q src

serve: $(STAMP)/project compiled ## run the gateway (ARGS="--port 9000"); needs no configuration
	@exec .venv/bin/penstock serve $(ARGS)

# a run that may not keep what it compiled would compile all tests anew, in each of its processes
check test: export PYTHONDONTWRITEBYTECODE :=
PYTEST := .venv/bin/pytest -n auto --maxprocesses 8 --dist loadgroup
PURE := tests/core tests/upstream $(filter-out tests/test_coverage.py,$(wildcard tests/test_*.py)) \
	$(addprefix tests/domain/test_,catalog.py models_endpoint.py catalog_document.py limits.py)

check: env compiled style ## linters, types, and the tests that need no server: a minute
	@$(MAKE) -j2 types pure

pure:
	$(PYTEST) $(PURE) $(ARGS)

test: env compiled clients style ## all that CI runs, which is more than check (ARGS="-k name" narrows pytest)
	@$(MAKE) -j2 types tests

tests:
	$(PYTEST) $(ARGS)

test-python: # the tests of check on another interpreter (PYTHON=python3.13), in an environment of its own
	@scripts/test_python.sh $(or $(PYTHON),$(error name one: PYTHON=python3.13)) $(PURE) $(ARGS)

pythons: env # the same on every other Python of this machine; a minute for each
	@scripts/pythons.sh $(PURE) $(ARGS)

chaos: env # servers killed under load (ROUNDS=100, on each engine), races between processes and workers (RACES=1000), and for every limit, hostile requests in every reading (CUTS=25000), hostile providers, databases and values in every way, every fault of providers in every lane, and every conversation of the clients; 45 minutes
	@scripts/clients.sh
	@scripts/services.sh
	PENSTOCK_TEST_PATIENCE=120 PENSTOCK_TEST_ROUNDS=$(or $(ROUNDS),100) PENSTOCK_TEST_RACES=$(or $(RACES),1000) PENSTOCK_TEST_CUTS=$(or $(CUTS),25000) PENSTOCK_TEST_WAYS=1000 PENSTOCK_TEST_ALL=1 \
		.venv/bin/pytest --log-cli-level INFO --timeout 7200 tests/service/test_kill.py tests/service/test_workers.py tests/store/test_redis.py tests/service/test_room_race.py tests/server/test_cuts.py tests/service/test_hostile_providers.py tests/service/test_matrix.py tests/service/test_recovery.py tests/service/test_choice.py \
		tests/service/test_lying_postgresql.py tests/store/test_lying_postgresql.py tests/site/test_odd_values.py tests/site/test_lying_openid.py tests/clients/test_conversations.py -k "every_fault or no_more or case_12 or case_25 or case_34 or conversations or killed or race or reading or every_way or lies or whatever or odd or lying" $(ARGS)

mutants: env # changes to the source, one after the other, that the tests must notice (ARGS="relay" chooses); half an hour on two cores
	@scripts/services.sh
	.venv/bin/python scripts/mutants.py $(ARGS)

lint: style types ## ruff and the type checker

style: env
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	@scripts/native.sh

# what it reads is what it has found good already: then there is nothing to say
types: env
	@read=$$({ find src tests bench scripts \( -name '*.py' -o -name '*.pyi' \) -print0 | sort -z; \
		printf '%s\0' pyproject.toml requirements/*.txt .venv/pyvenv.cfg; } | xargs -0 sha256sum | sha256sum); \
	if [ "$$read" != "$$(cat $(STAMP)/types 2>/dev/null)" ]; then \
		echo .venv/bin/basedpyright && .venv/bin/basedpyright && echo "$$read" >$(STAMP)/types; fi

format: env ## ruff's fixes and formatting
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

release: env ## build what a release is made of into dist/, and try it (docs/operations/release.md)
	@scripts/release.sh

bench: env ## the benchmarks of bench/ (ARGS chooses)
	.venv/bin/python -m bench $(ARGS)

lock: ## remake the locks from the ranges (ARGS="--upgrade" for newer versions)
	@[ -x .venv/bin/uv ] || $(MAKE) env # not a dependency: a new range is not in the old lock, which fails there
	scripts/lock.sh $(ARGS)

clients: env ## the real clients and servers that the tests talk to
	@scripts/clients.sh
	@scripts/services.sh

fuzz: env # the admin API by its own description, as every role, with a fuzzer that is installed aside (scripts/fuzz.sh); ten minutes
	@scripts/fuzz.sh

newest: clients # the newest version of every client, installed aside and tried; the pins stay (scripts/newest.sh)
	@scripts/newest.sh $(ARGS)

clean: ## remove what the other targets made
	rm -rf .venv .pythons .clients .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP)/venv:
	@scripts/venv.sh "$(PYTHON)"
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/run: requirements/run.txt requirements/build.txt | $(STAMP)/venv
	$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	@touch $@

$(STAMP)/project: pyproject.toml setup.py src/penstock/core/body/_native.c $(STAMP)/run
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP)/dev: requirements/dev.txt $(STAMP)/project
	$(PIP) install --require-hashes -r requirements/dev.txt
	.venv/bin/python -m pip check
	@touch $@
