# Two commands matter: `make demo` and `make test`. Everything else is a shortcut.
#
# All builds use the one release profile, so that RocksDB's C++ is compiled once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# A rustup of a minute ago is not on the PATH of a shell that is older.
export PATH := $(PATH):$(HOME)/.cargo/bin

TARGET := $(or $(CARGO_TARGET_DIR),target)
TEST_FEATURES := --features floodgate-engine/failpoints

.PHONY: help demo demo-pay demo-cluster test drill-pay chaos sim fuzz run bench profile lint ready ready-servers ready-bench ready-tests

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ready ## Start an engine, send a midnight stampede, audit every answer
	@.ci/build.sh --workspace --bins
	@.ci/demo.sh

demo-pay: ready ## An evening on which winners pay: late, twice, wrongly; every payment is followed to its end
	@.ci/build.sh --workspace --bins
	@.ci/demo.sh loadtest/scenarios/pay.toml demo-pay

demo-cluster: ready-servers ## The same on a Redis cluster and PostgreSQL, started and stopped here
	@.ci/build.sh --workspace --bins
	@$(TARGET)/release/floodgate-loadtest cluster --report $(TARGET)/demo-cluster

test: ready-tests ## Build and run every test of the workspace
	@.ci/notice.sh
	REDIS_SERVERS="$${REDIS_SERVERS:-$$(.ci/valkey.sh)}" cargo test --release --locked --workspace $(TEST_FEATURES)

drill-pay: ready-servers ## demo-pay's evening with twenty kills, embedded and on Redis and PostgreSQL; SEED=7 is another
	@.ci/build.sh --workspace --bins $(TEST_FEATURES)
	SEED=$(SEED) cargo test --release --locked --workspace $(TEST_FEATURES) \
		--test pay_load -- --ignored --nocapture --test-threads=1 the_whole_evening

chaos: ready-servers ## Sell for CHAOS_SECONDS=60 while servers fail, audit every answer; CHAOS_SEED=7 repeats a day
	@.ci/build.sh --workspace --bins
	@$(TARGET)/release/floodgate-loadtest chaos --seconds $(or $(CHAOS_SECONDS),60) \
		--servers $(or $(CHAOS_SERVERS),3) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) --report $(TARGET)/chaos

sim: ready ## Simulate bad days for SECONDS=60 from new seeds, or tell one day: SEED=7
	@.ci/notice.sh
	@SECONDS_MAX=$(SECONDS) SEED=$(SEED) BASE=$(BASE) cargo test --release --locked --workspace $(TEST_FEATURES) \
		--test sim -- --ignored --exact --nocapture sim

fuzz: ready ## Ask an engine what its OpenAPI documents allow and what they do not; FUZZ_EXAMPLES=100, FUZZ_SEED=7
	@.ci/build.sh --workspace --bins
	@loadtest/fuzz/run.sh

run: ready ## Run the engine with config/demo.toml on its default ports
	@.ci/build.sh --workspace --bins
	@echo "Promotion page: http://$${FLOODGATE_HTTP_LISTEN:-127.0.0.1:8080}/   (Ctrl-C stops the engine)"
	@exec $(TARGET)/release/floodgate serve --config config/demo.toml

bench: ready-bench ## Measure throughput against bare hyper, and against nginx + Lua + Redis, on this machine
	@.ci/build.sh --workspace --bins
	@$(TARGET)/release/floodgate-bench --out $(TARGET)/bench

profile: ready-servers ## Train the compiler anew: what a busy sale does most, for every build after it
	@.ci/profile.sh

lint: ready ## Formatting, clippy, licences and sources of dependencies, scripts, page policy
	cargo fmt --all --check
	@.ci/notice.sh
	cargo clippy --release --locked --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	@.ci/lint.sh

ready:
	@.ci/install.sh

ready-servers:
	@.ci/install.sh redis-server postgresql

ready-bench:
	@.ci/install.sh redis-server postgresql nginx-extras lua-nginx-redis lua-cjson

ready-tests:
	@.ci/install.sh redis-server postgresql chromium-driver
