-- Distances and arithmetic. What a distance costs the planner is asked of a support function: wide
-- embeddings lie out of line, and reading them is what takes the time.

CREATE FUNCTION embedding_distance_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_distance_support(internal) IS 'planner support: the cost of a distance';

CREATE FUNCTION cosine_distance(embedding, embedding) RETURNS double precision
    AS 'MODULE_PATHNAME', 'embedding_cosine_distance_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT embedding_distance_support;
COMMENT ON FUNCTION cosine_distance(embedding, embedding) IS
    'cosine distance, 0 to 2; NaN where either embedding is all zeros';

CREATE FUNCTION l2_distance(embedding, embedding) RETURNS double precision
    AS 'MODULE_PATHNAME', 'embedding_l2_distance_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT embedding_distance_support;
COMMENT ON FUNCTION l2_distance(embedding, embedding) IS 'Euclidean distance';

CREATE FUNCTION inner_product(embedding, embedding) RETURNS double precision
    AS 'MODULE_PATHNAME', 'embedding_inner_product_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT embedding_distance_support;
COMMENT ON FUNCTION inner_product(embedding, embedding) IS 'inner product';

CREATE FUNCTION negative_inner_product(embedding, embedding) RETURNS double precision
    AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 SUPPORT embedding_distance_support;
COMMENT ON FUNCTION negative_inner_product(embedding, embedding) IS
    'inner product with its sign turned, so that the nearest come first';

CREATE OPERATOR <=> (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = cosine_distance, COMMUTATOR = <=>
);
COMMENT ON OPERATOR <=> (embedding, embedding) IS 'cosine distance';

CREATE OPERATOR <-> (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = l2_distance, COMMUTATOR = <->
);
COMMENT ON OPERATOR <-> (embedding, embedding) IS 'Euclidean distance';

CREATE OPERATOR <#> (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = negative_inner_product, COMMUTATOR = <#>
);
COMMENT ON OPERATOR <#> (embedding, embedding) IS 'negative inner product';

CREATE FUNCTION embedding_add(embedding, embedding) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_add_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_add(embedding, embedding) IS 'implementation of + operator';

CREATE FUNCTION embedding_sub(embedding, embedding) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_sub_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_sub(embedding, embedding) IS 'implementation of - operator';

CREATE FUNCTION embedding_mul(embedding, embedding) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_mul_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_mul(embedding, embedding) IS 'implementation of * operator';

CREATE OPERATOR + (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = embedding_add, COMMUTATOR = +
);
COMMENT ON OPERATOR + (embedding, embedding) IS 'element by element sum';

CREATE OPERATOR - (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = embedding_sub
);
COMMENT ON OPERATOR - (embedding, embedding) IS 'element by element difference';

CREATE OPERATOR * (
    LEFTARG = embedding, RIGHTARG = embedding, FUNCTION = embedding_mul, COMMUTATOR = *
);
COMMENT ON OPERATOR * (embedding, embedding) IS 'element by element product';
