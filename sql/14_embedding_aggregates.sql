-- sum and avg: double precision inside, in parallel where the planner likes.

CREATE FUNCTION embedding_accum(internal, embedding) RETURNS internal
    AS 'MODULE_PATHNAME', 'embedding_accum_wrapper' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION embedding_accum(internal, embedding) IS 'aggregate transition function';

CREATE FUNCTION embedding_combine(internal, internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'embedding_combine_wrapper' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION embedding_combine(internal, internal) IS 'aggregate combine function';

CREATE FUNCTION embedding_serialize(internal) RETURNS bytea
    AS 'MODULE_PATHNAME', 'embedding_serialize_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_serialize(internal) IS 'aggregate serial function';

CREATE FUNCTION embedding_deserialize(bytea, internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'embedding_deserialize_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_deserialize(bytea, internal) IS 'aggregate deserial function';

CREATE FUNCTION embedding_sum(internal) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_sum_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_sum(internal) IS 'aggregate final function';

CREATE FUNCTION embedding_avg(internal) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_avg_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_avg(internal) IS 'aggregate final function';

CREATE AGGREGATE sum(embedding) (
    SFUNC = embedding_accum,
    STYPE = internal,
    SSPACE = 4096,
    FINALFUNC = embedding_sum,
    COMBINEFUNC = embedding_combine,
    SERIALFUNC = embedding_serialize,
    DESERIALFUNC = embedding_deserialize,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE sum(embedding) IS 'element by element sum of all embeddings';

CREATE AGGREGATE avg(embedding) (
    SFUNC = embedding_accum,
    STYPE = internal,
    SSPACE = 4096,
    FINALFUNC = embedding_avg,
    COMBINEFUNC = embedding_combine,
    SERIALFUNC = embedding_serialize,
    DESERIALFUNC = embedding_deserialize,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE avg(embedding) IS 'element by element mean of all embeddings';
