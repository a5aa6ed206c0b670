# One step each: make demo, make check, make test. What they need is installed by the first of them, into .venv and node_modules.

# what .venv is made of; scripts/python chooses where this is not set
PYTHON ?=
BIN := .venv/bin
CERBOS = $(wildcard node_modules/@cerbos/cerbos-*/cerbos-*)
# programs that tests run besides; each is in the Debian package of its name, but for these
TEST_TOOLS := curl chromium-headless-shell redis-server nginx caddy haproxy prometheus openssl kubectl pg_ctlcluster mariadbd pgbouncer php rackup
PACKAGE_kubectl := kubernetes-client
PACKAGE_pg_ctlcluster := postgresql
PACKAGE_mariadbd := mariadb-server-core
PACKAGE_php := php-cli
PACKAGE_rackup := ruby-rack
# more arguments: make demo ARGS="--port 8081", make test ARGS="-k cognito"
ARGS ?=
# processes of tests that run at once: two to three for each of two cores, as many tests wait
WORKERS ?= 5
# make fuzz: seconds for each target, and how many generated requests the property is held against
SECONDS ?= 60
COUNT ?= 1000000

.DEFAULT_GOAL := help
.PHONY: help setup demo check test coverage bench docs fuzz lint hooks clean tools policies image sbom kube-apiserver

help:
	@echo "make demo    everything on this machine, with curl lines to paste; Ctrl-C stops it"
	@echo "             ADOPT=1 walks from an open app to an enforced one, and ends"
	@echo "make check   the linters, and every test that starts no process: what to run all day"
	@echo "make test    every test, against the real Cerbos and a local Cognito; DEPLOY=1 with the images, whatever changed"
	@echo "make coverage  every test, with a count of the lines and branches that they run"
	@echo "make bench   the performance table, beside the peers; QUICK=1 for two minutes, SOAK=600 for memory over ten"
	@echo "make fuzz    coverage-guided fuzzing of every parser, SECONDS=60 for each"
	@echo "make docs    the docs as a site, in site/"
	@echo "make lint    ruff, mypy, codespell and shellcheck"
	@echo "make hooks   run the linters before each commit of this clone"
	@echo "make image   both container images, with docker or podman; ENGINE=podman"
	@echo "make sbom    what is in them, as CycloneDX: dist/*.cdx.json"
	@echo "make kube-apiserver  Kubernetes' own, built by Go, and etcd: tests then ask the webhook through it"
	@echo "make setup   only the installation, which the others run when it is missing"
	@echo "make clean   remove what was installed and made"

setup: .venv/.package node_modules/.installed

# a stamp is newer than the lock file that it was made from: nothing is asked of the network again until that changes
.venv/.locked: requirements-dev.lock
	@test -x $(BIN)/pip || { python="$(or $(PYTHON),$$(scripts/python))"; \
	    $$python -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, '"$$python"' is " + sys.version.split()[0])' \
	        && $$python -m venv .venv; }
	@echo "installing Python packages into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements-dev.lock
	@# on all cores, where pip would take one; a package may carry files for another Python, which do not compile
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

.venv/.package: .venv/.locked pyproject.toml
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --no-index -e .
	@# what an installed package has: where Python writes no bytecode, each start would compile all of it again
	@$(BIN)/python -m compileall -qq sidecar
	@touch $@

node_modules/.installed: package-lock.json
	@command -v npm >/dev/null || { echo "npm is not on PATH: Node.js 18 or newer is needed" >&2; exit 1; }
	@echo "installing Cerbos and json-server into node_modules"
	@npm ci --loglevel=error >/dev/null
	@touch $@

demo: setup
	@exec $(BIN)/sidecar demo $(if $(ADOPT),--adopt) $(ARGS)

# Python starts hundreds of times in the tests, and compiles each module once, whatever a container says of it
check test coverage: export PYTHONDONTWRITEBYTECODE :=
# images and pods take minutes: tests/deploy has them run where something of them changed, in CI, and where they are asked for
test coverage: export DEPLOY := $(DEPLOY)

# no process, no container, no count of lines; of the properties fewer tries, and nothing that takes seconds
check: lint
	@$(BIN)/pytest -q --forks $(WORKERS) -p tests.pure --hypothesis-profile few $(ARGS)

# some at once, each file in one process; what measures time or memory runs alone after them
RUN = $(BIN)/pytest --forks $(WORKERS)
test: setup tools policies
	@$(RUN) $(ARGS)

# the floor is in pyproject.toml
coverage: setup tools policies
	@$(RUN) --cov --cov-report=term $(ARGS)

# the wildcard is read when the recipe runs, after setup; strict where this Cerbos can be (0.55)
policies: setup
	@strict=$$($(CERBOS) compile --help | grep -o -m1 -- --strict-evaluation); \
	$(CERBOS) compile $$strict policies

# the tests start these programs by themselves: no package starts its service, now or at the next boot
tools:
	@missing=; $(foreach tool,$(TEST_TOOLS),command -v $(tool) >/dev/null || missing="$$missing $(or $(PACKAGE_$(tool)),$(tool))"; ) \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    policy=/usr/sbin/policy-rc.d; \
	    if [ ! -e $$policy ]; then trap "rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; fi; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; } >/dev/null 2>&1 \
	        || echo "could not install$$missing: the tests that need it are skipped" >&2; \
	    systemctl disable --quiet $$missing >/dev/null 2>&1 || true; \
	else echo "not installed:$$missing; the tests that need it are skipped (apt-get install$$missing)" >&2; fi

bench: setup
	@$(MAKE) --no-print-directory tools TEST_TOOLS="wrk nginx"
	@$(BIN)/python -m bench.run $(if $(QUICK),--quick) $(if $(SOAK),--soak $(SOAK)) $(ARGS)
	@$(BIN)/pytest -q bench/micro.py --benchmark-timer=time.process_time --benchmark-columns=median,min,rounds --benchmark-sort=name -p no:cacheprovider

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

# atheris is built for some machines only: whoever fuzzes installs it
fuzz: setup
	@$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0
	@$(BIN)/python -m fuzz.run $(SECONDS)
	@$(BIN)/python -m fuzz.property $(COUNT)
	@$(BIN)/python -m fuzz.interleaved $(COUNT)

lint: .venv/.package
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/shellcheck findings/*.sh .ci/run scripts/python

hooks: .venv/.package
	@$(BIN)/pre-commit install

# BUILDAH_FORMAT: podman's own format of images has no health check
ENGINE ?= $(shell command -v docker || command -v podman)
image:
	@BUILDAH_FORMAT=docker $(ENGINE) build --build-arg REVISION="$$(git rev-parse HEAD)" -t authorization-sidecar:0.2.0 .
	@BUILDAH_FORMAT=docker $(ENGINE) build --build-arg REVISION="$$(git rev-parse HEAD)" --target standalone -t authorization-sidecar:0.2.0-standalone .

sbom: .venv/.package
	@$(BIN)/python scripts/sbom.py

# a quarter of an hour on two cores; PATH or .tools/ is where the tests look for it
kube-apiserver:
	@$(MAKE) --no-print-directory tools TEST_TOOLS="etcd kubectl" PACKAGE_etcd=etcd-server
	@cd tests/deploy/apiserver && go build -trimpath -o ../../../.tools/kube-apiserver \
	    -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes)" .

clean:
	rm -rf .tools .venv node_modules dist site htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
