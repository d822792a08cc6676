-- Casts from and to arrays. Nothing is implicit: an implicit cast to or from an array would make
-- operators that both types have ambiguous. The casts from and to pgvector's types are an
-- extension of their own, pgclip_pgvector.

CREATE FUNCTION embedding(embedding, integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_to_embedding_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding(embedding, integer, boolean) IS
    'checks an embedding against the dimensions of embedding(d)';

CREATE FUNCTION embedding(integer[], integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'int4_array_to_embedding_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding(integer[], integer, boolean) IS 'converts integer[] to embedding';

CREATE FUNCTION embedding(real[], integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'float4_array_to_embedding_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding(real[], integer, boolean) IS 'converts real[] to embedding';

CREATE FUNCTION embedding(double precision[], integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'float8_array_to_embedding_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding(double precision[], integer, boolean) IS
    'converts double precision[] to embedding';

CREATE FUNCTION embedding(numeric[], integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'numeric_array_to_embedding_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding(numeric[], integer, boolean) IS 'converts numeric[] to embedding';

CREATE FUNCTION embedding_to_float4(embedding) RETURNS real[]
    AS 'MODULE_PATHNAME', 'embedding_to_float4_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_to_float4(embedding) IS 'converts embedding to real[]';

CREATE FUNCTION embedding_to_float8(embedding) RETURNS double precision[]
    AS 'MODULE_PATHNAME', 'embedding_to_float8_array_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_to_float8(embedding) IS 'converts embedding to double precision[]';

CREATE CAST (embedding AS embedding)
    WITH FUNCTION embedding(embedding, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (embedding AS embedding) IS 'checks the dimensions of embedding(d)';

CREATE CAST (integer[] AS embedding)
    WITH FUNCTION embedding(integer[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (integer[] AS embedding) IS 'rounds to fp16; refuses what does not fit';

CREATE CAST (real[] AS embedding)
    WITH FUNCTION embedding(real[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (real[] AS embedding) IS 'rounds to fp16; refuses what does not fit';

CREATE CAST (double precision[] AS embedding)
    WITH FUNCTION embedding(double precision[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (double precision[] AS embedding) IS 'rounds to fp16; refuses what does not fit';

CREATE CAST (numeric[] AS embedding)
    WITH FUNCTION embedding(numeric[], integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (numeric[] AS embedding) IS 'rounds to fp16; refuses what does not fit';

CREATE CAST (embedding AS real[])
    WITH FUNCTION embedding_to_float4(embedding) AS ASSIGNMENT;
COMMENT ON CAST (embedding AS real[]) IS 'exact';

CREATE CAST (embedding AS double precision[])
    WITH FUNCTION embedding_to_float8(embedding) AS ASSIGNMENT;
COMMENT ON CAST (embedding AS double precision[]) IS 'exact';
