# The front door. `make help` lists what there is; README.md says what to expect.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SESSIONS ?= 25
FUZZ_SECONDS ?= 10
RUST_SOURCES := $(shell find rust -name '*.rs' -not -path '*/target/*' -o -name Cargo.toml -not -path '*/target/*') Cargo.toml Cargo.lock pyproject.toml
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/$(VENV)
unexport PYTHONPATH

.PHONY: help run test test-rust test-python test-all interop lint deny bench bench-scenarios fuzz-smoke fuzz-api soak wheel wheel-check docs clean prerequisites build

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## build everything, then run with the built-in simulator and 25 sessions
	@exec $(BIN)/python -m runner run --simulator $(SESSIONS)

build: $(VENV)/.core ## the environment and the Rust extension, in release mode

test: test-rust test-python ## all fast tests, Rust and Python

test-rust: prerequisites ## the Rust tests
	cargo test --locked --quiet

test-python: build ## the Python tests
	$(BIN)/pytest -m "not interop"

interop: build $(VENV)/.npm ## real Baileys against our simulator, and our runner against Baileys' server
	$(BIN)/pytest -m interop tests/interop

test-all: test-rust judge build $(VENV)/.npm ## every test: also interop and the foreign judges
	$(BIN)/pytest

.PHONY: judge
judge: prerequisites ## the comparisons with foreign implementations
	cargo test --locked --quiet -p runner-judge

lint: build ## formatting, lints, types, layers, the boundary stub
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check python tests bench tools
	$(BIN)/ruff format --check python tests bench tools
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/stubtest runner._core --allowlist .stubtest-allowlist --ignore-unused-allowlist
	$(BIN)/python tools/generate_docs.py --check
	$(BIN)/python tools/license_scan.py

deny: prerequisites ## licences, bans and sources of every Rust dependency
	@command -v cargo-deny >/dev/null || cargo install --quiet --locked --debug cargo-deny@0.20.2
	cargo deny --locked --log-level error check bans licenses sources

bench: build ## the pytest-benchmark suite (Rust: cargo bench; whole processes: bench.scenarios)
	$(BIN)/pytest bench --benchmark-only -o testpaths=bench

bench-scenarios: build ## every scenario at a small size: shows that they run, measures nothing
	$(BIN)/python -m bench.scenarios.smoke

fuzz-smoke: prerequisites ## every fuzz target for FUZZ_SECONDS (10) each
	tools/fuzz_smoke.sh $(FUZZ_SECONDS)

fuzz-api: build ## every documented operation of the API, FUZZ_API_EXAMPLES (300) calls of each and more
	FUZZ_API_EXAMPLES=$${FUZZ_API_EXAMPLES:-300} $(BIN)/pytest tests/e2e/test_api_fuzz.py

soak: build ## the long runs, results to bench/results
	$(BIN)/python -m bench.scenarios.soak

wheel: $(VENV)/.deps ## a wheel for this platform in dist/
	$(BIN)/maturin build --release --locked --out dist

wheel-check: wheel ## install the wheel into an empty environment, without Rust, and run it
	tools/wheel_check.sh

docs: build ## write the generated pages anew
	$(BIN)/python tools/generate_docs.py

clean: ## remove what was built
	rm -rf target dist $(VENV) rust/fuzz/target var .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks python/runner/*.so tests/interop/baileys/node_modules

prerequisites:
	@PYTHON=$(PYTHON) tools/prerequisites.sh

$(VENV)/.deps: uv.lock pyproject.toml | prerequisites
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv sync --quiet --frozen --inexact --no-install-project
	@touch $@

$(VENV)/.core: $(VENV)/.deps $(RUST_SOURCES)
	$(BIN)/maturin develop --release --locked --uv --quiet
	@touch $@

$(VENV)/.npm: tests/interop/baileys/package-lock.json | $(VENV)/.deps
	tools/prerequisites.sh interop
	cd tests/interop/baileys && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
