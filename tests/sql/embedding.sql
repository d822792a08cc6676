-- The embedding type from a user's side: what it accepts, prints, stores, compares and adds up.

-- Text form: any white space, any way to write a number; printed as the shortest decimal.
SELECT '[1,2,3]'::embedding;
SELECT E' [ 1 ,\t2.5e0\n, -3 ] '::embedding;
SELECT '[.5,5.,+1,1e-3,-0,0.1]'::embedding;
-- The largest, the smallest normal and the smallest number of fp16, and what rounds to zero.
SELECT '[65504,-65504,6.1035156e-05,5.9604645e-08,1e-9]'::embedding;
-- Rounding is to the nearest: 65519 is still 65504.
SELECT '[65519,2049,2051]'::embedding;
-- Every printed embedding reads back as itself.
SELECT count(*) FROM generate_series(1, 2000) i,
    LATERAL (SELECT ARRAY[sin(i), exp(i / 200.0 - 5), -1.0 / i]::float8[]::embedding AS e) q
    WHERE e::text::embedding IS DISTINCT FROM e;

-- Type modifier.
CREATE TABLE photos (id int PRIMARY KEY, embedding embedding(3));
\d photos
INSERT INTO photos VALUES (1, '[1,0,0]'), (2, '[0,1,0]'), (3, '[0.6,0.8,0]'), (4, NULL);
SELECT format_type('embedding'::regtype, 16000);
SELECT '[1,2]'::embedding(2);

-- Casts.
SELECT ARRAY[1,2,3]::embedding, ARRAY[0.25,0.5]::embedding, ARRAY[1,2]::real[]::embedding,
    ARRAY[1,2]::float8[]::embedding(2);
SELECT '[0.25,-2]'::embedding::real[], '[0.25,-2]'::embedding::float8[];
SELECT pg_typeof('[1]'::embedding::real[]), pg_typeof('[1]'::embedding::float8[]);
INSERT INTO photos VALUES (5, ARRAY[3,0,4]::float8[]);
SELECT embedding FROM photos WHERE id = 5;

-- Distances.
SELECT id, round((embedding <=> '[1,0,0]')::numeric, 6) AS cosine,
    round((embedding <-> '[1,0,0]')::numeric, 6) AS l2,
    round((embedding <#> '[1,0,0]')::numeric, 6) AS negative_inner_product
    FROM photos ORDER BY id;
SELECT id FROM photos ORDER BY embedding <=> '[0.7,0.7,0]' NULLS LAST, id LIMIT 2;
SELECT cosine_distance('[1,2]'::embedding, '[2,4]'), l2_distance('[0,0]'::embedding, '[3,4]'),
    inner_product('[1,2]'::embedding, '[3,4]'),
    negative_inner_product('[1,2]'::embedding, '[3,4]');
SELECT '[1,2]'::embedding <=> '[-1,-2]', '[0,0]'::embedding <=> '[1,2]',
    '[1,1]'::embedding <=> NULL;
SELECT '[65504,65504]'::embedding <-> '[-65504,-65504]' AS far_apart,
    '[5.9604645e-08]'::embedding <=> '[5.9604645e-08]' AS tiny;

-- Functions and arithmetic.
SELECT dims('[1,2,3]'::embedding), norm('[3,4]'::embedding);
SELECT l2_normalize('[3,4]'::embedding), l2_normalize('[0,0]'::embedding),
    l2_normalize('[65504,0]'::embedding), l2_normalize('[0,5.9604645e-08]'::embedding);
SELECT subvector('[1,2,3,4]'::embedding, 2, 2), subvector('[1,2,3,4]'::embedding, 3, 100),
    subvector('[1,2,3,4]'::embedding, -1, 3);
SELECT subvector('[1,2,3,4]'::embedding, 2147483647 - 2147483645, 2147483647);
SELECT '[1,2]'::embedding + '[3,4]', '[1,2]'::embedding - '[3,4]', '[1,2]'::embedding * '[3,4]';

-- Order: element by element, a prefix first; −0 equals 0.
SELECT e FROM (VALUES ('[2]'::embedding), ('[1,2]'), ('[-1]'), ('[1]'), ('[-0]'), ('[1,-2]')) v(e)
    ORDER BY e;
SELECT '[1,2]'::embedding = '[1,2]', '[1,2]'::embedding = '[1]', '[0]'::embedding = '[-0]',
    '[1]'::embedding <> '[1,0]', '[1]'::embedding < '[1,0]', '[2]'::embedding <= '[1,0]',
    '[2]'::embedding > '[1,0]', '[-1]'::embedding >= '[-2]';
SELECT embedding_hash('[0,1]') = embedding_hash('[-0,1]') AS same,
    embedding_hash_extended('[0,1]', 7) = embedding_hash_extended('[-0,1]', 7) AS same,
    embedding_hash('[0,1]') <> embedding_hash('[1,0]') AS different,
    embedding_hash_extended('[0,1]', 7) <> embedding_hash_extended('[0,1]', 8) AS different;
SELECT count(DISTINCT e) FROM (VALUES ('[0]'::embedding), ('[-0]'), ('[1]'), (NULL)) v(e);

-- Indexes and joins.
CREATE TABLE many AS
    SELECT i AS id, ARRAY[i % 100, i / 100]::embedding AS e FROM generate_series(0, 999) i;
CREATE INDEX many_btree ON many (e);
CREATE INDEX many_hash ON many USING hash (e);
ANALYZE many;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT id FROM many WHERE e < '[0,3]' ORDER BY e;
SELECT id FROM many WHERE e < '[0,3]' ORDER BY e;
DROP INDEX many_btree;
EXPLAIN (COSTS OFF) SELECT id FROM many WHERE e = '[7,3]';
SELECT id FROM many WHERE e = '[7,3]';
RESET ALL;
SET enable_nestloop = off;
SET enable_hashjoin = off;
SELECT count(*) FROM many a JOIN many b ON a.e = b.e;
SET enable_hashjoin = on;
SET enable_mergejoin = off;
SELECT count(*) FROM many a JOIN many b ON a.e = b.e;
RESET ALL;
CREATE UNIQUE INDEX ON many (e);
INSERT INTO many VALUES (1000, '[0,0]') ON CONFLICT (e) DO NOTHING;
SELECT count(*) FROM many;

-- Long embeddings go out of line, and come back.
CREATE TABLE long (id int, e embedding);
INSERT INTO long SELECT 1, array_agg(i % 1000)::embedding FROM generate_series(1, 16000) i;
INSERT INTO long SELECT 2, e FROM long;
SELECT dims(e), pg_column_size(e) FROM long;
SELECT a.e <-> b.e AS distance, a.e = b.e AS same, norm(a.e - b.e) AS norm
    FROM long a, long b WHERE a.id = 1 AND b.id = 2;
SELECT count(*) FROM long WHERE e::text::embedding = e AND e::real[]::embedding = e;

-- Binary form: dimensions, zero, then the numbers, all big-endian.
SELECT embedding_send('[1,-2,65504,5.9604645e-08]');

-- COPY out and in, in both formats.
\set file `mktemp -u /tmp/pgclip.XXXXXX`
COPY photos TO :'file' (FORMAT binary);
CREATE TABLE again (LIKE photos);
COPY again FROM :'file' (FORMAT binary);
COPY again TO :'file';
COPY again FROM :'file';
SELECT id, count(*), count(DISTINCT embedding) FROM again GROUP BY id ORDER BY id;
\setenv FILE :file
\! rm -f "$FILE"

-- Every function and operator of the extension says what it is.
SELECT p.oid::regprocedure FROM pg_proc p
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'pgclip'
    WHERE obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1;
SELECT o.oid::regoperator FROM pg_operator o
    JOIN pg_depend d ON d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'
    WHERE obj_description(o.oid, 'pg_operator') IS NULL ORDER BY 1;
-- All of the type's functions are immutable and parallel safe; only aggregate parts take NULL.
SELECT p.oid::regprocedure, p.provolatile, p.proparallel, p.proisstrict FROM pg_proc p
    WHERE p.probin LIKE '%pgclip%'
    AND ('embedding'::regtype = ANY (p.proargtypes::oid[]) OR p.proname LIKE 'embedding\_%')
    AND p.proname NOT IN ('zero_shot', 'clip_fill_attributes') AND (p.provolatile <> 'i' OR p.proparallel <> 's' OR NOT p.proisstrict) ORDER BY 1::text;
