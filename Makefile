# The one door to building, testing and measuring hone. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Builds are for this machine (target-cpu=native), so everything compiled is kept apart by its processor's flags.
CPU := $(shell grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null | sha256sum | cut -c1-12)
TARGET ?= $(CURDIR)/target/$(CPU)
CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/hone
ENV := $(TARGET)/env.mk
BIN := $(TARGET)/release
PORTABLE ?= $(CURDIR)/target/portable

export CARGO_TARGET_DIR := $(TARGET)
export CCACHE_DIR := $(CACHE)/ccache-$(CPU)
export HONE_ASSETS := $(CACHE)/assets
export CARGO_TERM_PROGRESS_WHEN ?= never
# llama.cpp switches all SIMD off when this is set.
unexport SOURCE_DATE_EPOCH

# These need no compiler set up: one lists, the other runs where there is none.
ifneq ($(filter-out help gpu-check,$(MAKECMDGOALS)),)
-include $(ENV)
endif

.PHONY: help setup slurm assets build demo test check docs captures prove bench-peers bench-train bench-serve bench-gateway bench-daemon bench-data bench-label \
	backends gpu-pack gpu-check bin clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/ /' | awk '{n=$$1; $$1=""; printf "  make %-12s%s\n", n, $$0}'

$(ENV): .ci/setup.sh
	@mkdir -p $(TARGET)
	@.ci/setup.sh $(ENV)

setup: $(ENV) ## what the build needs: used if present, else installed

slurm: ## the packages that tests of the Slurm pool run: used if present, else installed
	@.ci/slurm.sh

assets: $(ENV)
	@python3 .ci/assets.py $(HONE_ASSETS) --client

build: $(ENV) ## hone, honed and hone-worker, for this machine
	@echo "build: the first time compiles llama.cpp (about 8 minutes on 2 cores), later seconds" >&2
	cargo build --release --locked

demo: build ## the main job without a screen: data, training, evaluation, endpoint, bill (6 minutes on 2 cores)
	@python3 tests/demo/demo.py $(BIN)

test: build assets slurm ## what CI runs
	cargo fmt --all --check
	cargo test --release --locked --workspace

check: build ## formatting and lints, warnings are errors
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

docs: build ## writes the generated lists of docs/
	HONE_WRITE_DOCS=1 cargo test --release --locked -p hone-protocol --test wire
	HONE_WRITE_DOCS=1 cargo test --release --locked -p hone-daemon --lib openapi

prove: build assets slurm bench-peers ## the long matrices; writes docs/evidence/
	python3 tests/prove/prove.py $(BIN)
	python3 tests/prove/resume.py $(BIN)
	python3 tests/prove/money.py
	python3 tests/prove/disk.py $(BIN)
	python3 tests/prove/hub.py $(BIN) $(HONE_ASSETS)/SmolLM2-135M-Instruct.Q4_1.gguf
	python3 tests/prove/convert.py $(BIN) $(CACHE)/peers $(HONE_ASSETS)/SmolLM2-135M-Instruct.Q4_1.gguf
	python3 tests/prove/peft.py $(BIN)
	python3 tests/prove/lm_eval.py $(BIN)
	python3 tests/prove/clients.py $(BIN)
	python3 tests/prove/slurm.py $(BIN)
	python3 tests/prove/embed.py $(BIN) $(CACHE)/peers $(HONE_ASSETS)/wheels
	python3 tests/prove/sets.py $(BIN) $(CACHE)/sets
	python3 tests/prove/label.py $(BIN) $(CACHE)/peers-label

captures: build assets ## every screen as text in docs/captures, from a real run in tmux (5 minutes)
	@python3 tests/captures.py $(BIN)

bench-peers: ## the pinned peers of the benchmarks (PyTorch, transformers, PEFT; 1.6 GB)
	@python3 tests/peers/install.py $(CACHE)/peers

bench-train: build assets bench-peers ## training against the machine's limit, and beside PyTorch + PEFT (15 minutes)
	$(BIN)/bench-train $(HONE_ASSETS)/SmolLM2-135M-Instruct.Q4_1.gguf
	@python3 tests/peers/bench_train.py $(BIN) $(HONE_ASSETS)/SmolLM2-135M-Instruct.Q4_1.gguf $(CACHE)/peers

bench-serve: build assets ## the endpoint against the engine's own batched decoding and llama.cpp's server (25 minutes)
	$(BIN)/bench-serve-engine
	$(BIN)/bench-serve $$(python3 tests/peers/llama_server.py $(CACHE)/peers-serve)

bench-gateway: build assets ## what HTTP and metering cost over the worker alone, and tiny calls of an upstream beside litellm (5 minutes)
	$(BIN)/bench-gateway $$(python3 tests/peers/litellm_proxy.py $(CACHE)/peers-gateway)

bench-data: build ## rows: import, pages and search beside pyarrow and datasets on the same rows (5 minutes)
	$(BIN)/bench-data $$(python3 tests/peers/data_tools.py $(CACHE)/peers-data)

bench-daemon: build ## start, memory, wake-ups, reads and writes of the daemon against their budgets
	$(BIN)/bench-daemon

bench-label: build assets ## from the key that decides to the next row, on 100,000 rows while training runs (3 minutes)
	$(BIN)/bench-label

backends: build ## GPU backends as modules beside the programs: CUDA where nvcc is, Vulkan where glslc is
	@python3 kernels/backends/build.py --build $(TARGET)/backends --out $(BIN)/backends

# For another processor than this one: any x86-64 with AVX2.
gpu-pack: $(ENV) ## what a GPU machine without a network needs, under 60 MiB, in target/gpu-pack
	RUSTFLAGS="-C target-cpu=x86-64-v3" cargo build --release --locked -p hone-kernels --bins --target-dir $(PORTABLE)
	@python3 tests/gpu/pack.py $(PORTABLE)/release target/gpu-pack

gpu-check: ## there: compiles for its GPU, compares with the CPU, measures; writes target/gpu/gpu-check.json
	@python3 tests/gpu/check.py target/gpu-pack

bin: ## where the programs are
	@echo $(BIN)

clean: ## forget everything that was built here
	rm -rf target
