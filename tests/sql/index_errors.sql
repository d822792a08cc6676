-- What bad input gets from the access method clip_hnsw: an error that names the value at fault, and
-- a hint.
CREATE TABLE things (id int, v embedding(3), w embedding(3), f int, n numeric, j jsonb, b bytea, a int[], t text);
INSERT INTO things VALUES (1, '[1,2,3]', '[3,2,1]', 1, 1, '1', '', '{1}', 'one');

-- Options out of range, unknown ones.
CREATE INDEX ON things USING clip_hnsw (v) WITH (m = 1);
CREATE INDEX ON things USING clip_hnsw (v) WITH (m = 101);
CREATE INDEX ON things USING clip_hnsw (v) WITH (m = 'many');
CREATE INDEX ON things USING clip_hnsw (v) WITH (ef_construction = 3);
CREATE INDEX ON things USING clip_hnsw (v) WITH (ef_construction = 1001);
CREATE INDEX ON things USING clip_hnsw (v) WITH (lists = 100);
CREATE INDEX ON things USING clip_hnsw (v) WITH (fillfactor = 70);
CREATE INDEX fine ON things USING clip_hnsw (v) WITH (m = 2, ef_construction = 4);
ALTER INDEX fine SET (m = 1000);
ALTER INDEX fine SET (m = 100, ef_construction = 1000);
REINDEX INDEX fine;
DROP INDEX fine;

-- Columns: exactly the first is the embedding.
CREATE INDEX ON things USING clip_hnsw (f);
CREATE INDEX ON things USING clip_hnsw (f, v);
CREATE INDEX ON things USING clip_hnsw (v, w);
CREATE INDEX ON things USING clip_hnsw (v, f, w);
CREATE INDEX ON things USING clip_hnsw (v, v);
CREATE INDEX ON things USING clip_hnsw (v, f, f, f, f, f, f, f, f);
CREATE INDEX ON things USING clip_hnsw (v, f, f, f, f, f, f, f, f, f);
-- Types that nobody can filter by, operator classes that do not fit.
CREATE INDEX ON things USING clip_hnsw (v, n);
CREATE INDEX ON things USING clip_hnsw (v, j);
CREATE INDEX ON things USING clip_hnsw (v, a);
CREATE INDEX ON things USING clip_hnsw (v, b);
CREATE INDEX ON things USING clip_hnsw (t);
CREATE INDEX ON things USING clip_hnsw (v int4_ops);
CREATE INDEX ON things USING clip_hnsw (v int4_filter_ops);
CREATE INDEX ON things USING clip_hnsw (f embedding_l2_ops);
CREATE INDEX ON things USING clip_hnsw (v, f text_filter_ops);
CREATE INDEX ON things USING hnsw_clip (v);
-- What the access method has not.
CREATE UNIQUE INDEX ON things USING clip_hnsw (v);
CREATE INDEX ON things USING clip_hnsw (v) INCLUDE (f);
CREATE INDEX ON things USING clip_hnsw (v DESC);
CREATE INDEX ON things USING clip_hnsw (v NULLS FIRST);
-- Dimensions.
CREATE TABLE wide (v embedding(16000));
CREATE INDEX ON wide USING clip_hnsw (v);
CREATE INDEX ON wide USING clip_hnsw (subvector(v, 1, 3000)) WITH (m = 100);
CREATE INDEX ON wide USING clip_hnsw (subvector(v, 1, 3000));
INSERT INTO wide SELECT array_agg(n)::embedding FROM generate_series(1, 16000) n;
CREATE TABLE mixed (v embedding);
INSERT INTO mixed VALUES ('[1,2]'), ('[1,2,3]');
CREATE INDEX ON mixed USING clip_hnsw (v);
TRUNCATE mixed;
INSERT INTO mixed VALUES ('[1,2]');
CREATE INDEX mixed_v ON mixed USING clip_hnsw (v);
INSERT INTO mixed VALUES ('[1,2,3]');
UPDATE mixed SET v = '[1]';
SELECT * FROM clip_index_check('mixed_v');

-- Queries.
CREATE INDEX things_v ON things USING clip_hnsw (v, f);
SET enable_seqscan = off;
SET enable_sort = off;
SELECT id FROM things ORDER BY v <=> '[1,2]';
SELECT id FROM things ORDER BY v <=> '[1,2,3,4]' LIMIT 1;
SELECT id FROM things ORDER BY v <=> 'red' LIMIT 1;
SELECT v FROM mixed ORDER BY v <=> '[1,2,3]' LIMIT 1;
-- Errors that are caught leave the session and the index as they were.
DO $$
DECLARE n int := 0;
BEGIN
    FOR i IN 1..20 LOOP
        BEGIN
            INSERT INTO mixed VALUES (array_fill(1::real, ARRAY[1 + i % 3])::embedding);
            PERFORM v FROM mixed ORDER BY v <=> array_fill(1::real, ARRAY[1 + i % 2])::embedding LIMIT 1;
        EXCEPTION WHEN data_exception THEN
            n := n + 1;
        END;
    END LOOP;
    RAISE NOTICE '% were refused', n;
END $$;
SELECT count(*), count(*) FILTER (WHERE dims(v) = 2) AS fit FROM mixed;
SELECT * FROM clip_index_check('mixed_v');
-- What the index cannot answer is answered in another way, whatever is switched off.
SELECT id FROM things WHERE f = 1;
SELECT id FROM things WHERE v IS NULL;
SELECT id FROM things WHERE v IS NULL ORDER BY v <=> '[1,2,3]';
SELECT id FROM things ORDER BY v <=> '[1,2,3]', v <=> '[3,2,1]';
SELECT id FROM things ORDER BY v <=> '[1,2,3]', w <=> '[3,2,1]';
SELECT id FROM things ORDER BY v <=> '[1,2,3]' DESC;
SELECT id FROM things ORDER BY v <=> '[1,2,3]' NULLS FIRST;
SELECT id FROM things ORDER BY v <-> '[1,2,3]';
SELECT count(*) FROM things;
SELECT f FROM things WHERE f BETWEEN 0 AND 5 AND v IS NOT NULL;

-- Settings.
SET pgclip.search_slack = -1;
SET pgclip.search_slack = 'much';
SET pgclip.ef_search = 0;
SET pgclip.iterative_scan = 'on';
SET pgclip.max_scan_tuples = 0;
SET pgclip.scan_mem = '1kB';
