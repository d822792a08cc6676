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
