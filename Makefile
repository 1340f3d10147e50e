# The front door. `make` lists what there is.
SHELL := bash

.PHONY: help build fmt check test test-hermetic test-services soak demo bench bench-values fuzz matrix screens servers servers-down clean-servers

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

build: ## the release binary, target/release/rekindle
	cargo build --release

fmt: ## format the code
	cargo fmt

check: ## formatting and clippy, warnings denied
	cargo fmt --check
	cargo clippy --all-targets --features mutants -- -D warnings

test: ## everything; on Debian installs and starts the servers it needs
	@tests/run-all

test-hermetic: ## the tests that need no server
	@tests/run-all hermetic

test-services: ## the tests against MariaDB, PostgreSQL, Redis, Elasticsearch and OpenSearch
	@tests/run-all services

soak: ## the crash enumerator at every kill point, not only a sample; 20,000 seeded runs; a generated shop of a million rows
	@RK_ENUMERATOR=all RK_SEEDS=20000 RK_SHOP_ROWS=1000000 tests/run-all enumerator model shop

demo: ## restore a shop to files, be killed half-way, go on; needs Rust and a C compiler only
	@tests/demo/run

bench: ## rows per second beside the servers' own floor
	@tests/bench/run

matrix: ## 30,000 rows with every version of every server; needs Maven, Java, Python
	@tests/matrix/run

screens: ## takes the pictures of README.md; needs MariaDB, Redis, tmux and python3
	@tests/screens/run

fuzz: ## a minute of made-up values, plans, cursors and servers' answers (RK_FUZZ_SECONDS); what it finds lies in target/tmp
	@RK_FUZZ_SECONDS=$${RK_FUZZ_SECONDS:-60} cargo test --features mutants --test fuzz -- --nocapture

bench-values: ## values as PHP writes them, and the parts of a chunk's way: bytes per second, without servers
	@cargo bench --bench values --bench parts

servers: ## start the test servers; then: . target/servers/env
	@tests/servers/up

servers-down: ## stop them
	@tests/servers/down

clean-servers: servers-down ## stop them and remove their data
	rm -rf target/servers
