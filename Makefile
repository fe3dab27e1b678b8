# Everything a person or CI runs. `make help` lists the targets.
# Dependencies are built once, in the release profile, outside the clone; several clones share them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export CARGO_TARGET_DIR ?= $(or $(TESTUDO_CACHE),$(HOME)/.cache/testudo)/target
# KEEP is handed on as a flag: an empty variable is not a value.
unexport KEEP

TESTUDO := $(CARGO_TARGET_DIR)/release/testudo
CARGO := .ci/cargo
STEP := .ci/step
# One set of flags for all that is tested, so that nothing is built twice. Our own crate is not optimised there (ADR 0008).
export TESTED := --release --locked --features failpoints --config profile.release.package.testudo.opt-level=0
# What is measured has no crash points.
BENCH := $(CARGO) bench --locked --profile release
BENCH_FLAGS = $(foreach flag,only records workers runs seconds peers systems out seed,$(if $(BENCH_$(flag)),--$(flag) $(BENCH_$(flag))))
BENCH_only = $(ONLY)
BENCH_records = $(RECORDS)
BENCH_workers = $(WORKERS)
BENCH_runs = $(RUNS)
BENCH_seconds = $(DURATION)
BENCH_peers = $(PEERS)
BENCH_systems = $(SYSTEMS)
BENCH_out = $(OUT)
BENCH_seed = $(SEED)

.PHONY: help prepare build demo test check tests unit model stack-tests crash bench up down status clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

demo: prepare build ## Start everything and show a tenant at work; KEEP=1 leaves it running
	$(TESTUDO) demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

test: prepare check tests unit stack-tests ## All that a change must pass: check, unit and model tests, tests on the real stack

check: prepare ## Format, lints, documentation
	$(STEP) "format" 2 $(CARGO) fmt --check
	$(STEP) "lints" 60 $(CARGO) clippy $(TESTED) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(STEP) "documentation" 15 $(CARGO) doc $(TESTED) --lib --no-deps --document-private-items --quiet

tests: prepare ## Build all of them at once, which keeps every core busy
	$(STEP) "build of all tests" 60 $(CARGO) test $(TESTED) --lib --test model --test stack --no-run

unit: prepare ## Unit and model tests, without a network
	$(STEP) "unit and model tests" 60 $(CARGO) test $(TESTED) --lib --test model

model: prepare ## The engine on a model of Kafka under faults; SEEDS=5000, or SEED=123 to replay one
	$(STEP) "simulation" 60 $(CARGO) test $(TESTED) --test model sim:: -- --show-output

stack-tests: prepare ## Tests on a real broker, registry and database; TESTS=name runs those whose name contains it
	$(STEP) "build for stack tests" 60 $(CARGO) test $(TESTED) --test stack --no-run
	$(STEP) "stack tests" 40 .ci/stack-tests $(TESTS)

crash: prepare ## Every fault many times on the real stack, into docs/reliability.md; REPEAT=20 SEED= ONLY="commit.sent" RESUME=1 TESTS=crash_matrix
	$(STEP) "build for the fault matrix" 60 $(CARGO) test $(TESTED) --test stack --no-run
	TESTUDO_CRASH_REPEAT=$(or $(REPEAT),20) TESTUDO_CRASH_SEED="$(SEED)" TESTUDO_CRASH_ONLY="$(ONLY)" TESTUDO_CRASH_RESUME="$(RESUME)" $(STEP) "fault matrix" 300 .ci/stack-tests $(TESTS)

bench: prepare ## Measure everything, into docs/performance/report.md; ONLY=throughput,latency RECORDS=5000000 PEERS=/path/to/kit
	$(if $(if $(ONLY),$(findstring stages,$(ONLY)),all),$(STEP) "micro-benchmarks" 30 $(BENCH) --bench stages --bench gate -- --warm-up-time 1 --measurement-time 3 --noplot)
	$(STEP) "benchmark" 90 $(BENCH) --bench system -- $(BENCH_FLAGS)

up: prepare build ## Start a broker, a registry and a database on this machine
	$(TESTUDO) stack up

down: ## End them, and those that `make demo KEEP=1` left
	@for dir in .testudo/stack .testudo/demo .testudo/bench/stack; do if [ -f $$dir/stack.json ]; then $(TESTUDO) stack down --dir $$dir; fi; done

status: ## Show whether they run and answer
	@$(TESTUDO) stack status

clean: ## Remove what was built and the data of stopped local stacks; keeps downloads
	$(MAKE) down
	$(CARGO) clean
	rm -rf .testudo

prepare:
	@$(STEP) "prepare" 20 .ci/prepare

build:
	$(STEP) "build" 60 $(CARGO) build --release --locked --bin testudo
