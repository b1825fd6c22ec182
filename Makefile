# `make demo` shows what retell does; `make test` proves it. Both set up what they need first, say
# what they install, and are quick when nothing is missing.

comma := ,
# Compiled guests and everything else lands in cargo's target folder.
TARGET := $(or $(CARGO_TARGET_DIR),target)
GUESTS := $(patsubst %/Cargo.toml,%,$(wildcard projections/*/Cargo.toml tests/guests/*/Cargo.toml tests/bench/projections/*/Cargo.toml))

.DEFAULT_GOAL := help
.PHONY: help demo test bench soak fuzz lint fmt setup guests clean-guests

help: ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'

demo: setup ## The main job on generated events and on a git history, step by step
	cargo build --release --bins --examples
	@"$(TARGET)/release/examples/demo"

test: setup ## Every test, documentation included
	cargo test --workspace

bench: setup ## Replays and appends beside native code on the same log; ONLY=hot,wide for some
	cargo bench --bench bench

soak: setup ## Kill everything at random for DURATION=60 seconds, and then look at everything; SEED=… draws the same
	RETELL_SOAK_SECONDS=$(or $(DURATION),60) $(if $(SEED),RETELL_SEED=$(SEED)) \
		cargo test --test crash -- soak --nocapture

fuzz: setup ## Feed everything that reads bytes from outside, each target for SECONDS=60; ONLY=line,row for some
	@.ci/fuzz "$(TARGET)" "$(or $(SECONDS),60)" $(subst $(comma), ,$(ONLY))

lint: ## Format check, and clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the code
	cargo fmt --all

setup: ## Install what is missing: a C compiler, git, PostgreSQL, a way to compile WebAssembly
	@.ci/setup

guests: setup ## Build every projection, shipped or for tests, into target/guests
	@cargo build --quiet --bin retell
	@set -e; for crate in $(GUESTS); do .ci/guest "$(TARGET)" "$$crate"; done

clean-guests: ## Forget the built guests
	rm -rf "$(TARGET)/guests" "$(TARGET)/retell-guests"
