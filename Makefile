# `make bench` shows what this machine can do; `make test` runs every test there is.

PREFIX       ?= /usr/local
DESTDIR      ?=
FUZZ_SECONDS ?= 60
CARGO        ?= cargo

# Everything is built below ./target, whatever the caller's settings.
export CARGO_TARGET_DIR := $(CURDIR)/target
export FUZZ_SECONDS

cli := target/release/otedama-cli

.PHONY: help build bench install test test-long lint fuzz sanitize criterion clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

build: ## build the release binary, target/release/otedama-cli
	$(CARGO) build --release --locked

bench: build ## build, then measure every kernel of every algorithm on this machine
	$(cli) bench --kernel all

install: build ## install into PREFIX (below DESTDIR, if set), with the short name otedama
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(cli) "$(DESTDIR)$(PREFIX)/bin/otedama-cli"
	ln -sf otedama-cli "$(DESTDIR)$(PREFIX)/bin/otedama"

test: ## install what the tests need, then run all of them
	.ci/test

test-long: ## the tests that take minutes and gigabytes: every published hash, whole datasets
	OTEDAMA_LONG_TESTS=1 $(CARGO) test --locked --release -p otedama-core \
		--test randomx_vectors --test randomx_kernels -- --show-output

lint: ## formatting, clippy, rustdoc, the shape of the workspace
	.ci/test lint

sanitize: ## the tests around unsafe code, under AddressSanitizer
	.ci/test sanitize

fuzz: ## every fuzz target for FUZZ_SECONDS (60)
	.ci/test fuzz

criterion: ## every kernel beside its rivals, with statistics
	$(CARGO) bench --locked --profile release -p otedama-benches

clean: ## remove everything that was built
	$(CARGO) clean
