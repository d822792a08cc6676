-- Searching. SECURITY INVOKER, STABLE, planned anew each call: what the caller may see of the
-- table as the statement sees it, and nothing else. A filter's values are parameters of the
-- columns' types, its operators those of the types' default B-tree operator classes.

CREATE FUNCTION text_search(
    tbl anyelement,
    query text,
    k integer DEFAULT 10,
    enhance boolean DEFAULT true,
    domain text DEFAULT NULL,
    embedding_column text DEFAULT NULL,
    model text DEFAULT NULL,
    min_score real DEFAULT NULL,
    with_image boolean DEFAULT false,
    filter jsonb DEFAULT NULL,
    rerank text DEFAULT 'off',
    candidates integer DEFAULT 50,
    liked embedding[] DEFAULT NULL,
    disliked embedding[] DEFAULT NULL,
    attributes text DEFAULT NULL,
    language text DEFAULT NULL
) RETURNS TABLE (hit anyelement, score real)
    AS 'MODULE_PATHNAME', 'text_search'
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10;
COMMENT ON FUNCTION text_search(anyelement, text, integer, boolean, text, text, text, real, boolean, jsonb, text, integer, embedding[], embedding[], text, text) IS
    'the k rows of the table or view of tbl that fit a sentence best, with cosine similarity; images are NULL unless with_image; filter is an object of columns and what they must be: {"camera": "north gate", "taken_at": {">=": "2026-11-01"}, "lane": [1, 2], "note": null}; rerank (off, adaption, adaption_weighted_mean or adaption_mean) orders the first candidates anew; liked and disliked move the query; attributes restricts (hard) or nudges (soft) by the columns of what the sentence names, such as colour; language is that of the sentence, for models that have several';

CREATE FUNCTION image_search(
    tbl anyelement,
    image bytea,
    k integer DEFAULT 10,
    embedding_column text DEFAULT NULL,
    model text DEFAULT NULL,
    min_score real DEFAULT NULL,
    with_image boolean DEFAULT false,
    filter jsonb DEFAULT NULL,
    rerank text DEFAULT 'off',
    candidates integer DEFAULT 50,
    liked embedding[] DEFAULT NULL,
    disliked embedding[] DEFAULT NULL
) RETURNS TABLE (hit anyelement, score real)
    AS 'MODULE_PATHNAME', 'image_search'
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10;
COMMENT ON FUNCTION image_search(anyelement, bytea, integer, text, text, real, boolean, jsonb, text, integer, embedding[], embedding[]) IS
    'the k rows of the table or view of tbl that look most like an image, with cosine similarity; filter, rerank, liked and disliked as in text_search';

CREATE FUNCTION image_search_file(
    tbl anyelement,
    root text,
    path text,
    k integer DEFAULT 10,
    embedding_column text DEFAULT NULL,
    model text DEFAULT NULL,
    min_score real DEFAULT NULL,
    with_image boolean DEFAULT false,
    filter jsonb DEFAULT NULL,
    rerank text DEFAULT 'off',
    candidates integer DEFAULT 50,
    liked embedding[] DEFAULT NULL,
    disliked embedding[] DEFAULT NULL
) RETURNS TABLE (hit anyelement, score real)
    AS 'MODULE_PATHNAME', 'image_search_file'
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10;
COMMENT ON FUNCTION image_search_file(anyelement, text, text, integer, text, text, real, boolean, jsonb, text, integer, embedding[], embedding[]) IS
    'the same as image_search from the image in a file beneath a root';

CREATE FUNCTION clip_rerank(
    embeddings embedding[],
    scores real[],
    method text DEFAULT 'adaption'
) RETURNS integer[]
    AS 'MODULE_PATHNAME', 'clip_rerank_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION clip_rerank(embedding[], real[], text) IS
    'the order of candidates after re-ranking, as their numbers, which count from 1';

-- A query's key and text or image are the first two columns of queries, a query's key and a
-- right row's those of relevance; keys are compared as text.
CREATE FUNCTION clip_evaluate(
    queries regclass,
    relevance regclass,
    tbl regclass,
    cutoffs integer[] DEFAULT '{1,5,10}',
    key text DEFAULT NULL,
    options jsonb DEFAULT NULL
) RETURNS TABLE (
    k integer,
    map double precision,
    recall double precision,
    mrr double precision,
    asked bigint
)
    AS 'MODULE_PATHNAME', 'clip_evaluate_wrapper'
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 3;
COMMENT ON FUNCTION clip_evaluate(regclass, regclass, regclass, integer[], text, jsonb) IS
    'how well searches of tbl answer the queries: mean average precision, share of queries with a right row, and mean reciprocal rank, each within the first k hits; options are those of text_search by name: {"rerank": "adaption", "attributes": "soft"}';

CREATE FUNCTION zero_shot(
    embedding embedding,
    labels text[],
    template text DEFAULT '{}',
    model text DEFAULT NULL
) RETURNS TABLE (label text, probability double precision)
    AS 'MODULE_PATHNAME', 'zero_shot_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION zero_shot(embedding, text[], text, text) IS
    'probabilities of labels for an embedding, the likeliest first; {} in the template stands for the label';

CREATE FUNCTION zero_shot(
    embedding embedding,
    labels text[],
    templates text[],
    model text DEFAULT NULL
) RETURNS TABLE (label text, probability double precision)
    AS 'MODULE_PATHNAME', 'zero_shot_ensemble_wrapper'
    LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION zero_shot(embedding, text[], text[], text) IS
    'the same with several templates, whose embeddings are averaged for each label';

CREATE FUNCTION clip_fill_attributes(
    embedding embedding,
    lexicon text DEFAULT 'vehicle',
    model text DEFAULT NULL
) RETURNS TABLE (attribute text, value text, probability double precision)
    AS 'MODULE_PATHNAME', 'clip_fill_attributes_wrapper'
    LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 3;
COMMENT ON FUNCTION clip_fill_attributes(embedding, text, text) IS
    'the likeliest value of each attribute that clip_attributes has for a domain, with its probability';
