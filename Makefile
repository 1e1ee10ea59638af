# `make help` lists the targets. Everything lives in .venv; nothing outside this folder changes.

# The one place that pins torch. Another build is one variable away, with whatever options pip knows:
#   make setup TORCH="torch==2.13.0 --index-url URL_OF_THE_BUILD_YOU_WANT"
TORCH ?= torch==2.13.0
UV ?= uv==0.13.9
PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3.12) $(shell command -v python3))
PYTEST_ARGS ?= -n auto --dist loadfile --durations=20 --durations-min=5

# Images: what builds them, and more words for it (`--build-arg`, `--secret`; docs/guide-images.md).
CONTAINER ?= $(firstword $(shell command -v podman) $(shell command -v docker))
IMAGE_ARGS ?=
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --abbrev=40 --exclude '*' --dirty)
BUILD_IMAGE_COMMAND = $(CONTAINER) build --build-arg TORCH="$(TORCH)" \
	--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION)
# Its CUDA is that of torch's own build; its Ubuntu brings Python 3.12.
GPU_BUILD_IMAGE ?= nvidia/cuda:13.0.2-devel-ubuntu24.04
GPU_IMAGE ?= ubuntu:24.04

BIN := .venv/bin
STAMP := .venv/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup quickstart docs test lint bench test-long test-cluster test-images test-pods lock image-gpu image-cpu \
	image-serve-gpu image-serve-cpu

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

setup: $(STAMP) ## Create .venv with every locked dependency (minutes; again only when the lock changed)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or 3.12, or set PYTHON=/path/to/it." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11 or 3.12. Set PYTHON=/path/to/one." >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock $(TORCH)
	$(BIN)/python -m pip install --quiet $(UV)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --requirement requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $(STAMP)

quickstart: setup ## Run the whole pipeline on the embedded tabletop, on this machine
	$(BIN)/lapactl run tabletop

lint: setup ## Style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Everything that takes minutes: lint, then the default tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: setup ## The tests marked slow: minutes
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "slow and not gpu and not cluster"

# A missing program would skip a test: CI makes it fail.
test-cluster: setup ## The tests on a real Kubernetes API server, which is built where none is at hand (Debian, root)
	@test -n "$(LAPA_TEST_KUBECONFIG)" || test -x "$(KUBEBUILDER_ASSETS)/kube-apiserver" \
		|| command -v kube-apiserver > /dev/null || tests/cluster/build_kubernetes.sh
	@command -v promtool > /dev/null || tests/cluster/fetch_promtool.sh
	CI=true $(BIN)/python -m pytest $(PYTEST_ARGS) -m "cluster and not pods and not images"

# REFERENCE=DIR: the `laq` folder of a checkout of the public code, to run beside ours.
bench: setup ## The smallest sizes of all benchmarks; numbers to publish come from larger ones (docs/results)
	@mkdir -p bench
	$(BIN)/python benchmarks/laq_speed.py $(if $(REFERENCE),--reference $(REFERENCE)) --out bench/laq_speed.json
	$(BIN)/python benchmarks/labelling.py $(if $(REFERENCE),--reference $(REFERENCE)) --clips 2 --frames 24 --rounds 1 \
		--out bench/labelling.json
	DS_ACCELERATOR=cpu $(BIN)/python benchmarks/trainer.py --width 64 --steps 4 --rounds 1 --out bench/trainer.json
	$(BIN)/python benchmarks/stream.py --clips 8 --frames 30 --size 32 --rounds 1 --out bench/stream.json
	$(BIN)/python benchmarks/stream_memory.py --growth 1,10 --batches 10 --out bench/stream_memory.json
	@printf '["put the cup on the plate", "open the drawer", "move the spoon to the left of the pot"]' > bench/texts.json
	$(BIN)/python benchmarks/padding.py bench/texts.json --out bench/padding.json
	$(BIN)/python benchmarks/serving.py --policy transformer --sides as-is,reread --robots 1,8 --clients 1,8 --rounds 1 \
		--repeats 2 --requests 5 --out bench/serving.json

docs: setup ## Write docs/reference-cli.md anew from the commands' own help
	$(BIN)/python scripts/cli_reference.py

lock: ## Resolve requirements.lock anew from pyproject.toml
	test -x $(BIN)/uv || { "$(PYTHON)" -m venv .venv && $(BIN)/python -m pip install --quiet $(UV); }
	./scripts/lock "$(firstword $(TORCH))"

image-gpu: ## Build lapa-train:VERSION for clusters with GPUs
	$(BUILD_IMAGE_COMMAND) --file docker/train.Dockerfile --tag lapa-train:$(VERSION) \
		--build-arg BASE_IMAGE=$(GPU_IMAGE) --build-arg BUILD_IMAGE=$(GPU_BUILD_IMAGE) \
		--build-arg DS_ACCELERATOR=cuda --build-arg DEEPSPEED_OPS=FUSED_ADAM \
		--build-arg SYSTEM_PACKAGES="libibverbs1 ibverbs-providers librdmacm1" $(IMAGE_ARGS) .

image-cpu: ## Build lapa-train:VERSION-cpu for development; TORCH names the CPU build
	$(BUILD_IMAGE_COMMAND) --file docker/train.Dockerfile --tag lapa-train:$(VERSION)-cpu $(IMAGE_ARGS) .

image-serve-gpu: ## Build lapa-serve:VERSION, the policy server, for machines with GPUs
	$(BUILD_IMAGE_COMMAND) --file docker/serve.Dockerfile --tag lapa-serve:$(VERSION) \
		--build-arg BASE_IMAGE=$(GPU_IMAGE) $(IMAGE_ARGS) .

image-serve-cpu: ## Build lapa-serve:VERSION-cpu, the policy server, for machines without one; TORCH as for image-cpu
	$(BUILD_IMAGE_COMMAND) --file docker/serve.Dockerfile --tag lapa-serve:$(VERSION)-cpu $(IMAGE_ARGS) .

test-images: setup ## Build the CPU images, train and serve in them (podman, root, network; many minutes)
	$(BIN)/python -m pytest -m images

test-pods: setup ## Train in real pods of a node started here (root, cgroups v1, network; many minutes)
	tests/cluster/build_kubernetes.sh
	$(BIN)/python -m pytest -m pods
