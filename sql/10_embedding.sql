-- The type: its input, output and type modifier, and the functions of one embedding.

CREATE TYPE embedding;

CREATE FUNCTION embedding_in(cstring, oid, integer) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_in_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_in(cstring, oid, integer) IS 'reads an embedding written as [0.1,0.2]';

CREATE FUNCTION embedding_out(embedding) RETURNS cstring
    AS 'MODULE_PATHNAME', 'embedding_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_out(embedding) IS 'writes an embedding as [0.1,0.2]';

CREATE FUNCTION embedding_recv(internal, oid, integer) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_recv_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_recv(internal, oid, integer) IS
    'reads the binary form: int2 dimensions, int2 zero, fp16 elements';

CREATE FUNCTION embedding_send(embedding) RETURNS bytea
    AS 'MODULE_PATHNAME', 'embedding_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_send(embedding) IS
    'writes the binary form: int2 dimensions, int2 zero, fp16 elements';

CREATE FUNCTION embedding_typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME', 'embedding_typmod_in_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_typmod_in(cstring[]) IS
    'reads the number of dimensions in embedding(d)';

CREATE TYPE embedding (
    INPUT = embedding_in,
    OUTPUT = embedding_out,
    RECEIVE = embedding_recv,
    SEND = embedding_send,
    TYPMOD_IN = embedding_typmod_in,
    -- fp16 numbers hardly compress: out of line, where long, but as they are.
    STORAGE = external
);
COMMENT ON TYPE embedding IS
    'vector of 1 to 16000 fp16 numbers, in the bytes of pgvector''s halfvec; embedding(d) has d';

CREATE FUNCTION dims(embedding) RETURNS integer
    AS 'MODULE_PATHNAME', 'embedding_dims_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dims(embedding) IS 'number of dimensions';

CREATE FUNCTION norm(embedding) RETURNS double precision
    AS 'MODULE_PATHNAME', 'embedding_norm_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION norm(embedding) IS 'Euclidean norm';

CREATE FUNCTION l2_normalize(embedding) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_l2_normalize_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION l2_normalize(embedding) IS
    'the same direction with Euclidean norm 1; all zeros stay all zeros';

CREATE FUNCTION subvector(embedding, start integer, count integer) RETURNS embedding
    AS 'MODULE_PATHNAME', 'embedding_subvector_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION subvector(embedding, integer, integer) IS
    'count elements from start on, counted from 1';
