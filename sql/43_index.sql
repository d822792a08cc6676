-- The index access method and the operator classes of its first column. Filter columns' operator
-- classes are in the next file.

CREATE FUNCTION clip_hnsw_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME' LANGUAGE c;
COMMENT ON FUNCTION clip_hnsw_handler(internal) IS 'handler of the access method clip_hnsw';

CREATE ACCESS METHOD clip_hnsw TYPE INDEX HANDLER clip_hnsw_handler;
COMMENT ON ACCESS METHOD clip_hnsw IS
    'HNSW graph of embeddings for nearest-neighbour search, with filter columns checked inside the graph';

CREATE OPERATOR CLASS embedding_cosine_ops DEFAULT FOR TYPE embedding USING clip_hnsw AS
    OPERATOR 6 <=> (embedding, embedding) FOR ORDER BY pg_catalog.float_ops;
COMMENT ON OPERATOR CLASS embedding_cosine_ops USING clip_hnsw IS
    'order by cosine distance, <=>; embeddings of zeros have none and are not indexed';

CREATE OPERATOR CLASS embedding_l2_ops FOR TYPE embedding USING clip_hnsw AS
    OPERATOR 7 <-> (embedding, embedding) FOR ORDER BY pg_catalog.float_ops;
COMMENT ON OPERATOR CLASS embedding_l2_ops USING clip_hnsw IS 'order by Euclidean distance, <->';

CREATE OPERATOR CLASS embedding_ip_ops FOR TYPE embedding USING clip_hnsw AS
    OPERATOR 8 <#> (embedding, embedding) FOR ORDER BY pg_catalog.float_ops;
COMMENT ON OPERATOR CLASS embedding_ip_ops USING clip_hnsw IS
    'order by negative inner product, <#>: the largest inner product first';

COMMENT ON OPERATOR FAMILY embedding_cosine_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY embedding_l2_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY embedding_ip_ops USING clip_hnsw IS 'holds the class of its name';

CREATE FUNCTION clip_index_check(index regclass)
    RETURNS TABLE (block bigint, item integer, fault text)
    AS 'MODULE_PATHNAME', 'clip_index_check_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 10;
COMMENT ON FUNCTION clip_index_check(regclass) IS
    'walks the whole graph of a clip_hnsw index, which takes no writes meanwhile, and returns a row for each fault; for its owner';

CREATE FUNCTION clip_index_stats(index regclass)
    RETURNS TABLE (
        format_version integer,
        metric text,
        dimensions integer,
        m integer,
        layout text,
        filter_columns integer,
        text_direction boolean,
        pages bigint,
        bytes bigint,
        free_bytes bigint,
        elements bigint,
        dead bigint,
        "rows" bigint,
        edges bigint,
        layers bigint[]
    )
    AS 'MODULE_PATHNAME', 'clip_index_stats_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 100000 ROWS 1;
COMMENT ON FUNCTION clip_index_stats(regclass) IS
    'what a clip_hnsw index is made of; layers are the numbers of elements from the base layer up; for its owner';

CREATE FUNCTION clip_index_recall(index regclass, k integer DEFAULT 10, samples integer DEFAULT 100)
    RETURNS double precision
    AS 'MODULE_PATHNAME', 'clip_index_recall_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION clip_index_recall(regclass, integer, integer) IS
    'share of the k nearest that searches of a clip_hnsw index find with the settings as they are: asked by so many of its elements, each as if it were not in it, against a look at all of them; NULL where there is nothing to find; for its owner';
