# The book. Its pages lie in docs/ as a code host shows them; some chapters are files of the root, so
# mdBook is given a copy in which links lead to where it finds them.

BOOK := target/book
MDBOOK ?= mdbook

.PHONY: book docs-bless contact-sheet
book: ## Build the book into target/book/html (wants mdbook)
	@command -v $(MDBOOK) >/dev/null || { \
	  echo 'make book wants mdBook: cargo install mdbook, or name one: make book MDBOOK=/path/to/mdbook.' >&2; \
	  echo 'The pages read without it: docs/SUMMARY.md lists them.' >&2; exit 1; }
	@rm -rf $(BOOK); mkdir -p $(BOOK)/src
	@cp -R docs/. $(BOOK)/src; rm -rf $(BOOK)/src/ablation $(BOOK)/src/book.* $(BOOK)/src/contact-sheet.*; cp docs/book.toml $(BOOK)
	@cp ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md models/README.md $(BOOK)/src 2>/dev/null; \
	  mv $(BOOK)/src/README.md $(BOOK)/src/built-in-model.md; cp docs/README.md $(BOOK)/src/README.md
	@find $(BOOK)/src -name '*.md' -exec sed -i -E \
	  -e 's#\]\(((\.\./)*)\.\./(ARCHITECTURE|CHANGELOG|CONTRIBUTING|SECURITY)\.md#](\1\3.md#g' \
	  -e 's#\]\(((\.\./)*)\.\./models/README\.md#](\1built-in-model.md#g' \
	  -e 's#\]\(docs/#](#g' {} +
	$(MDBOOK) build $(BOOK) --dest-dir html

docs-bless: stage ## Write the outputs in the documents and the reference's pages as they come out
	PGCLIP_BLESS=1 PGCLIP_STAGE="$(STAGE)" PGCLIP_ONNXRUNTIME="$(ONNXRUNTIME)" \
	  $(CARGO) test $(CARGOFLAGS) -p pgclip-tests --target-dir target --test docs

contact-sheet: demo ## Draw README's picture from the demo's page (wants Pillow)
	$(PYTHON) docs/contact-sheet.py target/demo/index.html docs/contact-sheet.jpg
