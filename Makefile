# The commands of this repository; `make help` lists them. What they build lies outside the tree.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

LARDER_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/larder
export LARDER_BUILD_DIR ?= $(LARDER_CACHE)/target
export CARGO_TARGET_DIR ?= $(LARDER_BUILD_DIR)
export LARDER_TOOLS_DIR ?= $(LARDER_CACHE)/tools
# Errors in tests say where they come from; a backtrace per error only hides that.
export RUST_LIB_BACKTRACE ?= 0

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(LARDER_TOOLS_DIR)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

LARDER_CLUSTER := $(CARGO_TARGET_DIR)/debug/larder-cluster
# A set of tests/tools.
MATRIX_KUBERNETES ?= kubernetes-1.34

FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 60
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# As cargo-fuzz does it, but without a sanitizer, so that the stable compiler will do: counters that libFuzzer reads.
FUZZ_RUSTFLAGS := --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
	-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

# Static programs run in images that hold nothing else; aws-lc's C code wants a compiler for their libc.
STATIC_TARGET := $(shell uname -m)-unknown-linux-musl
export CC_$(subst -,_,$(STATIC_TARGET)) := musl-gcc
ifeq ($(shell uname -m),aarch64)
# Kernels there have pages of 4, 16 or 64 KiB, and jemalloc must be built for the largest: 2^16 bytes.
export JEMALLOC_SYS_WITH_LG_PAGE := 16
endif

.PHONY: help run static images test test-matrix lint generate fmt bench doc fuzz cluster cluster-status cluster-down tools packages \
	advisories clean
.DEFAULT_GOAL := help

help: ## Lists these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: ## Builds and runs a cache node on 127.0.0.1:5117 with the embedded configuration
	@echo "== building cache-node (a few minutes the first time)"
	@mkdir -p "$(LARDER_CACHE)/blobs" "$(LARDER_CACHE)/credentials"
	@cargo build --locked --release -p cache-node
	@echo "== cache: $(LARDER_CACHE)/blobs, credentials: $(LARDER_CACHE)/credentials"
	@exec "$(CARGO_TARGET_DIR)/release/cache-node" serve \
		--cache-dir "$(LARDER_CACHE)/blobs" --credentials-dir "$(LARDER_CACHE)/credentials"

static: packages ## Builds the programs that go into images, without any library that they would load
	@echo "== building the static programs (a few minutes the first time)"
	@rustup --quiet target add $(STATIC_TARGET)
	@cargo build --locked --release --target $(STATIC_TARGET) -p cache-node -p larder-test-helper
# Apart: in one build, each would get the features that only the other needs.
	@cargo build --locked --release --target $(STATIC_TARGET) -p operator

images: static ## Builds Larder's images as OCI archives, and says how to load them
	@mkdir -p "$(LARDER_BUILD_DIR)/images"
	@cargo run --locked --quiet -p larder-tests --bin larder-images -- "$(LARDER_BUILD_DIR)/images"

test: packages tools static ## Installs and builds what the tests need, runs all tests, then fuzzes for a moment
	@echo "== building the tests, and the program that they run"
	@cargo build --locked --workspace --bins --tests
	@echo "== running the tests"
	@cargo test --locked --workspace --no-fail-fast
	@$(MAKE) fuzz FUZZ_SECONDS=10

test-matrix: packages static ## Runs the tests of the cluster with another minor of Kubernetes (MATRIX_KUBERNETES)
	@tests/tools/build cri etcd containerd containerd-1.7 helm "$(MATRIX_KUBERNETES)"
	@LARDER_CLUSTER_KUBERNETES="$(MATRIX_KUBERNETES)" cargo test --locked -p larder-tests --no-fail-fast \
		--test chart --test cluster --test cluster_faults --test cluster_matrix --test install

lint: $(CARGO_DENY) ## Formatting, clippy, documentation, dependencies, file lengths, import directions
	@echo "== formatting"
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@echo "== file lengths and import directions"
	@scripts/tidy
	@echo "== clippy"
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@echo "== documentation"
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@echo "== dependencies"
	@"$(CARGO_DENY)" --locked check bans licenses sources

generate: ## Writes anew what is made from other files: crds/registrymirrors.yaml, copies of it and the README in charts/
	@LARDER_REGENERATE=1 cargo test --locked --quiet --workspace --test generated

fmt: ## Formats the code
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

bench: tools ## Runs the benchmarks and prints their tables
	@cargo bench --locked -p larder-tests

doc: ## Builds the documentation of the crates
	@cargo doc --locked --workspace --no-deps
	@echo "== $(CARGO_TARGET_DIR)/doc/cache_node/index.html"

fuzz: ## Fuzzes each parser for FUZZ_SECONDS (60) and keeps what it found for the next time
	@echo "== building the fuzz targets: $(FUZZ_TARGETS)"
	@cd fuzz && CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)/fuzz" RUSTFLAGS="$(FUZZ_RUSTFLAGS)" \
		cargo build --release --bins --target $(FUZZ_HOST)
	@for target in $(FUZZ_TARGETS); do \
		echo "== fuzzing $$target for $(FUZZ_SECONDS) s"; \
		corpus="$(LARDER_CACHE)/fuzz/$$target"; \
		log="$$corpus.log"; \
		mkdir -p "$$corpus"; \
		"$(CARGO_TARGET_DIR)/fuzz/$(FUZZ_HOST)/release/$$target" -max_total_time=$(FUZZ_SECONDS) -timeout=5 \
			-max_len=4096 -verbosity=1 -artifact_prefix="$$corpus-" "$$corpus" "fuzz/seeds/$$target" >"$$log" 2>&1 || \
			{ tail -n 60 "$$log"; exit 1; }; \
		tail -n 1 "$$log"; \
	done

cluster: packages static ## Starts a real Kubernetes of three nodes to try Larder in, and says what to try; needs root
	@tests/tools/build etcd containerd kubernetes helm
	@echo "== starting the cluster"
	@cargo build --locked --quiet -p larder-tests --bin larder-cluster
	@"$(LARDER_CLUSTER)" up

cluster-status: ## Says what runs in the cluster
	@[[ -x "$(LARDER_CLUSTER)" ]] || { echo "no cluster runs; make cluster starts one"; exit 1; }
	@"$(LARDER_CLUSTER)" status

cluster-down: ## Ends the cluster and removes all that it made
	@[[ ! -x "$(LARDER_CLUSTER)" ]] || "$(LARDER_CLUSTER)" down

tools: ## Builds the pinned Go programs that the tests drive
	@tests/tools/build

packages: ## Installs the Debian packages that the tests drive (LARDER_INSTALL=0: only checks)
	@scripts/packages

advisories: $(CARGO_DENY) ## Asks the RustSec database about the dependencies; needs the internet, blocks nothing
	@"$(CARGO_DENY)" --locked check advisories

$(CARGO_DENY):
	@echo "== building cargo-deny $(CARGO_DENY_VERSION)"
	@cargo install --locked --quiet --root "$(LARDER_TOOLS_DIR)/cargo-deny-$(CARGO_DENY_VERSION)" \
		cargo-deny@$(CARGO_DENY_VERSION)

clean: ## Removes what was built, except the tools (LARDER_TOOLS_DIR)
	@echo "== removing $(CARGO_TARGET_DIR)"
	@cargo clean
