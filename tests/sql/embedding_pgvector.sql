-- pgclip and pgvector in one database, in one schema: same operators, same function names, no
-- collision; and the casts of pgclip_pgvector.

CREATE EXTENSION pgclip_pgvector;
CREATE EXTENSION vector;
CREATE EXTENSION pgclip_pgvector;
\dx+ pgclip_pgvector

-- halfvec and embedding are the same bytes.
SELECT '[1,2.5]'::halfvec::embedding, '[1,2.5]'::embedding::halfvec, '[1,2.5]'::embedding::halfvec(2);
SELECT halfvec_send('[1,-2,65504,5.9604645e-08]') = embedding_send('[1,-2,65504,5.9604645e-08]');
SELECT '[1,2.5]'::vector::embedding, '[1,2.5]'::vector::embedding(2), '[1,2.5]'::embedding::vector,
    '[1,2.5]'::embedding::vector(2);
SELECT '[1,70000]'::vector::embedding;
SELECT '[1,2]'::vector::embedding(3);
SELECT '[1,2]'::embedding::vector(3);
SELECT '[1,2]'::embedding::halfvec(3);
SELECT '[1,2]'::halfvec::embedding(3);

-- Operators: a halfvec becomes an embedding where the other side is one; literals take the other
-- side's type; nothing that pgvector resolves alone changes.
SELECT pg_typeof(h + h), pg_typeof(e + e), pg_typeof(h + e), pg_typeof(e + h), pg_typeof(v + v),
    pg_typeof(v + h), pg_typeof(h + '[1,1]'), pg_typeof(e + '[1,1]'), pg_typeof('[1,1]' + e)
    FROM (SELECT '[1,2]'::halfvec, '[3,4]'::embedding, '[5,6]'::vector) t(h, e, v);
SELECT h <=> e AS mixed, h <=> h AS halfvec, e <=> e AS embedding, h <-> '[1,2]' AS halfvec,
    e <-> '[3,4]' AS embedding, h <#> e AS mixed, h < e AS mixed, e = h AS mixed
    FROM (SELECT '[1,2]'::halfvec, '[3,4]'::embedding) t(h, e);
SELECT l2_distance(h, '[1,2]'), l2_distance(e, '[3,4]'), l2_distance(h, e), cosine_distance(e, h),
    inner_product(h, h), l2_normalize(h), l2_normalize(e), subvector(h, 1, 1), subvector(e, 1, 1)
    FROM (SELECT '[1,2]'::halfvec, '[3,4]'::embedding) t(h, e);
SELECT avg(h) AS halfvec, avg(e) AS embedding, avg(v) AS vector, sum(e) AS embedding
    FROM (SELECT '[1,2]'::halfvec, '[3,4]'::embedding, '[5,6]'::vector) t(h, e, v);
SELECT ARRAY[1,2]::halfvec, ARRAY[1,2]::vector, ARRAY[1,2]::embedding;

-- Assignment, either way.
CREATE TABLE both_types (e embedding(2), h halfvec(2), v vector(2));
INSERT INTO both_types VALUES ('[1,2]'::halfvec, '[1,2]'::embedding, '[1,2]'::embedding);
INSERT INTO both_types SELECT v, e, e FROM both_types;
SELECT * FROM both_types;
ALTER TABLE both_types ALTER v TYPE embedding(2);
ALTER TABLE both_types ALTER h TYPE embedding;
INSERT INTO both_types VALUES ('[1,2,3]'::halfvec);

-- The same distances to the last digit or two, on odd lengths and on extremes.
CREATE TABLE pairs AS
    SELECT n, array_agg(sin(n * 0.7 + i))::halfvec AS a, array_agg(cos(n * 1.3 + i * 2))::halfvec AS b
    FROM generate_series(1, 70) n, generate_series(1, n) i GROUP BY n;
SELECT max(abs((a <=> b) - (a::embedding <=> b::embedding))) < 1e-6 AS cosine,
    max(abs((a <-> b) - (a::embedding <-> b::embedding))) < 1e-5 AS l2,
    max(abs((a <#> b) - (a::embedding <#> b::embedding))) < 1e-5 AS inner_product,
    bool_and(a::text = a::embedding::text) AS text,
    bool_and((a + b) = (a::embedding + b::embedding)::halfvec) AS sum
    FROM pairs;

-- pgvector's index serves a column of embeddings through the cast.
CREATE INDEX ON pairs USING hnsw ((a::embedding::halfvec(3)) halfvec_cosine_ops) WHERE n = 3;

-- Dropping pgvector asks first, and takes the casts along, not pgclip.
DROP TABLE pairs;
DROP EXTENSION vector;
DROP EXTENSION vector CASCADE;
SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1;
SELECT * FROM both_types;
