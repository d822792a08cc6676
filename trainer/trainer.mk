# The trainer: libtorch from PyPI's wheel of torch, `pgclip-train`, and the built-in model.
# Included by the Makefile at the root; nothing else needs any of it.

TORCH := $(ROOT)/target/torch
# tch 0.24 needs exactly this version. The wheel's CPU half wants two small CUDA libraries.
TORCH_WHEELS := torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
# CUDA=1 fetches all of torch (2.7 GB), for training on a GPU; once there, it stays.
CUDA ?= $(if $(wildcard $(TORCH)/.torch-2.11.0-cuda),1)
TORCH_STAMP := $(TORCH)/.torch-2.11.0$(if $(CUDA),-cuda)
# The linker sees the CPU half alone; CUDA's half is opened at run time when it is there.
TORCH_ENV = LIBTORCH="$(TORCH)/torch" LIBTORCH_LIB="$(TORCH)/link"
TRAINER_ARGS = -p pgclip-train --target-dir target
TRAIN := target/release/pgclip-train

$(TORCH_STAMP): | tools
	$(call say,Fetch torch 2.11.0$(if $(CUDA), with CUDA)); \
	rm -rf "$(TORCH)"; \
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-compile \
	  --root-user-action=ignore $(if $(CUDA),,--no-deps) --target "$(TORCH)" \
	  $(if $(CUDA),torch==2.11.0,$(TORCH_WHEELS)); \
	mkdir -p "$(TORCH)/link/lib"; \
	for library in torch torch_cpu c10; do \
	  ln -s "../../torch/lib/lib$$library.so" "$(TORCH)/link/lib/"; \
	done; \
	touch '$@'; \
	$(took)

# tch compiles torch's C++ headers.
.PHONY: c++
c++:
	@command -v c++ >/dev/null || { echo 'The trainer needs a C++ compiler (Debian: apt-get install g++)' >&2; exit 1; }

.PHONY: trainer test-trainer model
trainer: $(TORCH_STAMP) | c++ ## Fetch libtorch into target/torch and build pgclip-train (CUDA=1: with CUDA)
	$(call say,Build the trainer); \
	$(TORCH_ENV) $(CARGO) build $(CARGOFLAGS) --release $(TRAINER_ARGS); \
	$(took)

# Not after `trainer`: tests bring features of their own, with which all would be compiled twice. A
# server too: what the trainer finds in files is compared with what SQL finds.
test-trainer: $(TORCH_STAMP) stage | c++
	$(call say,Test the trainer); \
	$(TORCH_ENV) PGCLIP_ONNXRUNTIME="$(ONNXRUNTIME)" PGCLIP_STAGE="$(STAGE)" $(CARGO) test $(CARGOFLAGS) --release $(TRAINER_ARGS); \
	$(TORCH_ENV) $(CARGO) clippy $(CARGOFLAGS) --release $(TRAINER_ARGS) --all-targets --no-deps -- -D warnings; \
	$(took)

# Needs a Python with torch 2.11.0 and open_clip_torch 3.3.0 for the other side: BENCH_PYTHON.
.PHONY: bench-trainer
DEVICE ?= cpu
BENCH_PYTHON ?= target/bench-python/bin/python
bench-trainer: trainer ## Time training steps against open_clip on Python's PyTorch (DEVICE=cuda: on a GPU)
	@if [ ! -x "$(BENCH_PYTHON)" ]; then \
	  $(PYTHON) -m venv target/bench-python && \
	  $(BENCH_PYTHON) -m pip --disable-pip-version-check install --quiet --no-compile \
	    torch==2.11.0 torchvision==0.26.0 open_clip_torch==3.3.0; \
	fi
	$(TORCH_ENV) $(CARGO) build $(CARGOFLAGS) --release $(TRAINER_ARGS) --example step
	$(BENCH_PYTHON) trainer/bench/compare.py --ours target/release/examples/step \
	  --python "$(BENCH_PYTHON)" --device $(DEVICE) $(BENCH_ARGS)

# ---- from the trainer to the database ---------------------------------------------------------

.PHONY: fine-tune-demo
fine-tune-demo: stage trainer ## Fine-tune the built-in model, put it into a private server, and measure before and after
	@PGCLIP_STAGE="$(STAGE)" PGCLIP_ONNXRUNTIME="$(ONNXRUNTIME)" \
	  target/release/pgclip-demo fine-tune --trainer $(TRAIN)

# ---- what A3R's steps add ---------------------------------------------------------------------

# `make ablation ABLATION_ARGS='--seeds 2'` runs a part; what is there is not run again.
.PHONY: ablation
ablation: trainer ## Measure what each of A3R's steps adds, into docs/ablation (hours; stop and go on at will)
	$(TRAIN) ablation $(ABLATION_ARGS)

# ---- the built-in model -----------------------------------------------------------------------

MODEL := pgclip-traffic-tiny
MODEL_DATA := target/train
# Where the new model goes; `make model MODEL_OUT=models/$(MODEL)` replaces the one in the repository.
MODEL_OUT ?= $(MODEL_DATA)/$(MODEL)
MODEL_STEPS ?= 2400
# What "reproducible" means: the same pictures and captions, and the score within 0.01.
MODEL_TRAIN_IMAGES := 6dcea57f4182a108c99709c463ed1ecf2932c675f930b8602e7134a6b8c1b81f
MODEL_TRAIN_CAPTIONS := 15ecfd55f5cec26312daf3b31fc0b242be0094b07e9525cfdfd0b52a25343129
MODEL_TEST_IMAGES := 17f42636297586c0de5bd86e107c3c70fca9bfe929a83abee2fdb369a610d382
MODEL_LEAST_SCORE := 0.955

model: trainer ## Train the built-in model anew: scenes, training, evaluation, export (about an hour on two cores)
	$(TRAIN) synth $(MODEL_DATA)/data --count 60000 --seed 1 --captions 8
	$(TRAIN) synth $(MODEL_DATA)/test --count 1000 --seed 1000001 --captions 1
	@grep -q $(MODEL_TRAIN_IMAGES) $(MODEL_DATA)/data/manifest.json && \
	  grep -q $(MODEL_TEST_IMAGES) $(MODEL_DATA)/test/manifest.json && \
	  echo '$(MODEL_TRAIN_CAPTIONS)  $(MODEL_DATA)/data/captions.txt' | sha256sum --check --quiet || \
	  { echo 'The scenes are not those of the model in the repository: their digests differ' >&2; exit 1; }
	$(TRAIN) train --train-data $(MODEL_DATA)/data/captions.txt --val-data $(MODEL_DATA)/test/labels.txt \
	  --out $(MODEL_DATA)/run --resume --model $(MODEL) --compact-vocabulary --token-noise 0.15 \
	  --steps $(MODEL_STEPS) --batch-size 256 --lr 1e-3 --warmup 150 --wd 0.1 --grad-clip-norm 1 \
	  --precision fp32 --multi-positive --save-frequency 0 --log-every 20 --flip --shift 3 --brightness 0.1 --seed 1 --save-every 100
	$(TRAIN) eval $(MODEL_DATA)/run --data $(MODEL_DATA)/test/labels.txt --json $(MODEL_DATA)/eval.json \
	  --at-least $(MODEL_LEAST_SCORE)
	$(TRAIN) eval $(MODEL_DATA)/run --data $(MODEL_DATA)/test/labels.txt --json $(MODEL_DATA)/eval-suffix.json \
	  --suffix ' image taken by traffic surveillance cameras'
	$(TRAIN) export $(MODEL_DATA)/run $(MODEL_OUT) --name $(MODEL) --overwrite \
	  --mean-text $(MODEL_DATA)/data/captions.txt
