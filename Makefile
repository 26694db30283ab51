# `make bench` shows what this machine can do; `make test` runs every test there is.

PREFIX       ?= /usr/local
DESTDIR      ?=
FUZZ_SECONDS ?= 10
CARGO        ?= cargo

# Everything is built below ./target, whatever the caller's settings.
export CARGO_TARGET_DIR := $(CURDIR)/target
export FUZZ_SECONDS

cli := target/release/otedama-cli

# Where the libraries to install lie, and where they go below PREFIX (lib/x86_64-linux-gnu on Debian, lib64 on Fedora).
LIBS   ?= target/release
LIBDIR ?= lib

version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
abi     := $(shell sed -n 's/^pub const OTEDAMA_ABI_VERSION: u32 = \(.*\);/\1/p' otedama-ffi/src/version.rs)
lib     := $(DESTDIR)$(PREFIX)/$(LIBDIR)

# From $(LIBDIR)/cmake/otedama up to PREFIX: one step for each part of LIBDIR, and two.
to_prefix := $(shell printf '%s' "$(LIBDIR)" | sed 's,[^/][^/]*,..,g')/../..
fill      := sed -e 's,@PREFIX@,$(PREFIX),' -e 's,@LIBDIR@,$(LIBDIR),' -e 's,@VERSION@,$(version),' \
                 -e 's,@ABI@,$(abi),' -e 's,@TO_PREFIX@,$(to_prefix),' \
                 -e 's,@MAJOR_MINOR@,$(basename $(version)),'

.PHONY: help build libs bench bench-gpu install install-cli install-libs test test-long test-gpu lint fuzz sanitize criterion clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

build: ## build the release binary, target/release/otedama-cli
	$(CARGO) build --release --locked

libs: ## build the C library, target/release/libotedama.so and .a
	$(CARGO) build --release --locked -p otedama-ffi

bench: build ## build, then measure every kernel of every algorithm on this machine
	$(cli) bench --kernel all

bench-gpu: build ## build, then measure every algorithm on every GPU, with the computed limits beside
	.ci/bench-gpu

install: install-cli install-libs ## install what `make build libs` built into PREFIX (below DESTDIR, if set)

install-cli: ## install the command alone, with the short name otedama
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(cli) "$(DESTDIR)$(PREFIX)/bin/otedama-cli"
	ln -sf otedama-cli "$(DESTDIR)$(PREFIX)/bin/otedama"

install-libs: ## install the C library alone: headers, libraries, what pkg-config and CMake read
	install -d "$(DESTDIR)$(PREFIX)/include" "$(lib)/pkgconfig" "$(lib)/cmake/otedama"
	install -m 644 include/otedama.h include/otedama.hpp "$(DESTDIR)$(PREFIX)/include"
	install -m 755 "$(LIBS)/libotedama.so" "$(lib)/libotedama.so.$(version)"
	ln -sf libotedama.so.$(version) "$(lib)/libotedama.so.$(abi)"
	ln -sf libotedama.so.$(abi) "$(lib)/libotedama.so"
	install -m 644 "$(LIBS)/libotedama.a" "$(lib)/libotedama.a"
	$(fill) otedama-ffi/install/otedama.pc.in >"$(lib)/pkgconfig/otedama.pc"
	$(fill) otedama-ffi/install/otedama-config.cmake.in >"$(lib)/cmake/otedama/otedama-config.cmake"
	$(fill) otedama-ffi/install/otedama-config-version.cmake.in >"$(lib)/cmake/otedama/otedama-config-version.cmake"

test: ## install what the tests need, then run all of them
	.ci/test

test-long: ## the tests that take minutes and gigabytes: every published hash, whole datasets
	OTEDAMA_LONG_TESTS=1 $(CARGO) test --locked --release -p otedama-core \
		--test randomx_vectors --test randomx_kernels --test sealed_kernels -- --show-output

test-gpu: ## the GPU kernels, without a GPU and, if there is one, on it
	.ci/test gpu
	.ci/test card

lint: ## formatting, clippy, rustdoc, the shape of the workspace
	.ci/test lint

sanitize: ## the tests around unsafe code, under AddressSanitizer
	.ci/test sanitize

fuzz: ## every fuzz target for FUZZ_SECONDS (10)
	.ci/test fuzz

criterion: ## every kernel beside its rivals, with statistics
	$(CARGO) bench --locked --profile release -p otedama-benches

clean: ## remove everything that was built
	$(CARGO) clean
