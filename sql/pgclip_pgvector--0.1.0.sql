\echo Use "CREATE EXTENSION pgclip_pgvector" to load this file. \quit

-- Casts between embedding and pgvector's types.
--
-- An extension of its own, because a cast depends on both types. As a member of pgclip it would
-- tie the two together: DROP EXTENSION vector CASCADE would drop pgclip and every embedding column
-- with it. As a member of neither it would be dumped as a command that fails where it exists
-- already. Like this, dumps say CREATE EXTENSION after both others, and dropping pgvector drops
-- the casts alone.

DO $$
BEGIN
    -- Types of these names, but pgvector's: not somebody's who was there first.
    IF (SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
          AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
          AND e.extname OPERATOR(pg_catalog.=) 'vector'::pg_catalog.name
          AND d.objid OPERATOR(pg_catalog.=) ANY (ARRAY[
              pg_catalog.to_regtype('halfvec'::pg_catalog.text)::pg_catalog.oid,
              pg_catalog.to_regtype('vector'::pg_catalog.text)::pg_catalog.oid]))
       OPERATOR(pg_catalog.<>) 2 THEN
        RAISE 'pgclip_pgvector needs pgvector 0.7.0 or later'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'ALTER EXTENSION vector UPDATE.';
    END IF;
END
$$;

-- halfvec and embedding are the same bytes. Implicit one way alone: both would make every operator
-- between the two types ambiguous.

CREATE CAST (halfvec AS embedding) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (halfvec AS embedding) IS 'the same bytes: costs nothing';

CREATE CAST (embedding AS halfvec) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (embedding AS halfvec) IS 'the same bytes: costs nothing';

CREATE FUNCTION vector_to_embedding(vector, integer, boolean) RETURNS embedding
    AS 'MODULE_PATHNAME', 'vector_to_embedding_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION vector_to_embedding(vector, integer, boolean) IS
    'converts pgvector''s vector to embedding';

CREATE FUNCTION embedding_to_vector(embedding, integer, boolean) RETURNS vector
    AS 'MODULE_PATHNAME', 'embedding_to_vector_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION embedding_to_vector(embedding, integer, boolean) IS
    'converts embedding to pgvector''s vector';

CREATE CAST (vector AS embedding)
    WITH FUNCTION vector_to_embedding(vector, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (vector AS embedding) IS 'rounds to fp16; refuses what does not fit';

CREATE CAST (embedding AS vector)
    WITH FUNCTION embedding_to_vector(embedding, integer, boolean) AS ASSIGNMENT;
COMMENT ON CAST (embedding AS vector) IS 'exact';
