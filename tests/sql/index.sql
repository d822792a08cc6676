-- The access method clip_hnsw as SQL sees it: options, operator classes, the shapes of plans, what a
-- scan returns and what it says. Points lie on an arc, one at every hundredth, so that the order of
-- rows is known, and the search looks far enough to find it.
SET pgclip.search_slack = 5;
SET max_parallel_maintenance_workers = 0;
SET max_parallel_workers_per_gather = 0;
CREATE TABLE points (id int PRIMARY KEY, v embedding(2), camera int, note text);
INSERT INTO points SELECT n, ARRAY[cos(0.01 * n), sin(0.01 * n)]::real[]::embedding, n % 10, 'n' || n % 3
FROM generate_series(1, 300) n;
INSERT INTO points VALUES (2001, NULL, 1, 'none'), (2002, '[0,0]', 1, 'zeros'), (2003, '[1,0]', NULL, NULL);
CREATE INDEX by_cosine ON points USING clip_hnsw (v, camera);
CREATE INDEX by_l2 ON points USING clip_hnsw (v embedding_l2_ops) WITH (m = 8, ef_construction = 32);
CREATE INDEX by_ip ON points USING clip_hnsw (v embedding_ip_ops);
ANALYZE points;
SELECT pg_get_indexdef('by_cosine'::regclass);
SELECT pg_get_indexdef('by_l2'::regclass);
SELECT reloptions FROM pg_class WHERE relname = 'by_l2';

-- What it says of itself.
SELECT amname, amhandler, amtype, obj_description(oid, 'pg_am') FROM pg_am WHERE amname = 'clip_hnsw';
SELECT property, pg_indexam_has_property(oid, property)
FROM pg_am, unnest(ARRAY['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include']) property
WHERE amname = 'clip_hnsw';
SELECT property, pg_index_has_property('by_cosine', property)
FROM unnest(ARRAY['clusterable', 'index_scan', 'bitmap_scan', 'backward_scan']) property;
SELECT property, pg_index_column_has_property('by_cosine', 1, property) AS vector,
    pg_index_column_has_property('by_cosine', 2, property) AS filter
FROM unnest(ARRAY['asc', 'orderable', 'distance_orderable', 'returnable', 'search_array', 'search_nulls']) property;
-- All operator classes are sound, by the access method's own judgement.
SELECT opcname, opcintype::regtype, opcdefault, amvalidate(c.oid), obj_description(c.oid, 'pg_opclass') IS NOT NULL AS described
FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'clip_hnsw' ORDER BY opcname COLLATE "C";
-- Their operators are those of the type's B-tree, by the same numbers, and all can be called.
SELECT amopfamily, amopstrategy, amopopr::regoperator
FROM pg_amop o JOIN pg_am a ON a.oid = o.amopmethod
WHERE amname = 'clip_hnsw' AND amoppurpose = 's' AND NOT EXISTS (
    SELECT FROM pg_amop b JOIN pg_am m ON m.oid = b.amopmethod
    WHERE amname = 'btree' AND b.amopopr = o.amopopr AND b.amopstrategy = o.amopstrategy);
SELECT count(*) AS operators_without_a_function
FROM pg_amop o JOIN pg_am a ON a.oid = o.amopmethod JOIN pg_operator p ON p.oid = amopopr
WHERE amname = 'clip_hnsw' AND (oprcode = 0 OR oprleft <> amoplefttype OR oprright <> amoprighttype);

-- The operator picks the index.
SET enable_seqscan = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM points ORDER BY v <-> '[1,0]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM points ORDER BY v <#> '[1,0]' LIMIT 5;
SELECT id, round((v <=> '[1,0]')::numeric, 5) AS d FROM points ORDER BY v <=> '[1,0]' LIMIT 5;
SELECT id, round((v <-> '[0,1]')::numeric, 4) AS d FROM points ORDER BY v <-> '[0,1]' LIMIT 5;
SELECT round((v <#> '[0.5,0.75]')::numeric, 2) AS d FROM points ORDER BY v <#> '[0.5,0.75]' LIMIT 3;
-- The operator's other side may stand first.
EXPLAIN (COSTS OFF) SELECT id FROM points ORDER BY '[1,0]' <=> v LIMIT 5;

-- LIMIT and OFFSET.
SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 3 OFFSET 4;
SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 0;
SELECT count(*), max(id) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 100 OFFSET 100) n;
SET pgclip.iterative_scan = relaxed;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 9223372036854775807 OFFSET 1) n;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT NULL) n;
RESET pgclip.iterative_scan;
SELECT id FROM points ORDER BY v <=> '[1,0]' FETCH FIRST 2 ROWS ONLY;

-- Conditions: on a filter column in the index, on others above it.
EXPLAIN (COSTS OFF) SELECT id FROM points WHERE camera = 7 ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id FROM points WHERE camera = 7 ORDER BY v <=> '[1,0]' LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM points WHERE camera BETWEEN 3 AND 4 AND note = 'n1' ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id, camera, note FROM points WHERE camera BETWEEN 3 AND 4 AND note = 'n1' ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id FROM points WHERE camera IS NULL ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id FROM points WHERE camera = 7 AND camera < 7 ORDER BY v <=> '[1,0]' LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM points WHERE v IS NOT NULL ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id FROM points WHERE v IS NOT NULL ORDER BY v <=> '[1,0]' LIMIT 3;
-- Far away only: the scan goes on until the LIMIT is met.
SELECT id FROM points WHERE id > 295 ORDER BY v <=> '[1,0]' LIMIT 3;
SELECT id FROM points WHERE v <=> '[1,0]' > 1 ORDER BY v <=> '[1,0]' LIMIT 2;

-- Joins, LATERAL, subqueries.
CREATE TABLE questions (id int, v embedding(2), camera int);
INSERT INTO questions SELECT n, ARRAY[cos(n), sin(n)]::real[]::embedding, n FROM generate_series(0, 3) n;
INSERT INTO questions VALUES (4, NULL, 4), (5, '[0,0]', 5);
EXPLAIN (COSTS OFF) SELECT q.id, n.id FROM (VALUES (1, '[1,0]'::embedding, 7), (2, '[0,1]', 3)) q (id, v, camera)
    CROSS JOIN LATERAL (SELECT p.id FROM points p WHERE p.camera = q.camera ORDER BY p.v <=> q.v LIMIT 2) n;
SELECT q.id, n.id FROM questions q
    CROSS JOIN LATERAL (SELECT p.id FROM points p WHERE p.camera = q.camera ORDER BY p.v <=> q.v LIMIT 2) n;
SELECT q.id, n.* FROM questions q
    LEFT JOIN LATERAL (SELECT p.id, p.note FROM points p ORDER BY p.v <-> q.v LIMIT 1) n ON true ORDER BY q.id;
SELECT id FROM points ORDER BY v <=> (SELECT v FROM questions WHERE id = 1) LIMIT 3;
SELECT count(*) FROM points WHERE id IN (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 20) AND camera = 3;
WITH near AS MATERIALIZED (SELECT id, v FROM points ORDER BY v <=> '[0,1]' LIMIT 20)
SELECT id FROM near ORDER BY v <-> '[0,1]', id LIMIT 2;
SELECT (SELECT p.id FROM points p ORDER BY p.v <=> q.v LIMIT 1) FROM questions q ORDER BY q.id;
SELECT p.id, q.id FROM points p JOIN questions q USING (camera) ORDER BY p.v <=> '[1,0]' LIMIT 3;
SELECT id, row_number() OVER (ORDER BY v <=> '[1,0]') FROM points ORDER BY v <=> '[1,0]' LIMIT 2;
SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 2 FOR UPDATE;
UPDATE points SET note = 'near' WHERE id IN (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 2) RETURNING id;

-- Prepared statements, with a plan for each call and one for all.
PREPARE nearest (embedding, int) AS SELECT id FROM points WHERE camera = $2 ORDER BY v <=> $1 LIMIT 2;
SET plan_cache_mode = force_custom_plan;
EXECUTE nearest ('[1,0]', 7);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE nearest ('[1,0]', 7);
EXECUTE nearest ('[1,0]', 7);
EXECUTE nearest ('[0,1]', 3);
EXECUTE nearest ('[0,1]', NULL);
PREPARE few (embedding, int) AS SELECT id FROM points ORDER BY v <=> $1 LIMIT $2;
EXECUTE few ('[1,0]', 2);
EXECUTE few ('[1,0]', 4);
-- No row is at a known distance from NULL: an index scan returns none.
EXECUTE few (NULL, 4);
RESET plan_cache_mode;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> (SELECT v FROM questions WHERE id = 4) LIMIT 3) n;

-- Cursors, forward and not backward.
BEGIN;
DECLARE near CURSOR FOR SELECT id FROM points ORDER BY v <=> '[1,0]';
FETCH 2 FROM near;
FETCH 2 FROM near;
SELECT id FROM points ORDER BY v <=> '[0,1]' LIMIT 1;
FETCH 30 FROM near \g /dev/null
FETCH 1 FROM near;
CLOSE near;
DECLARE back SCROLL CURSOR FOR SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 5;
FETCH 3 FROM back;
FETCH BACKWARD 2 FROM back;
FETCH ABSOLUTE 5 FROM back;
COMMIT;
DO $$
DECLARE r record; found int[] := '{}';
BEGIN
    FOR r IN SELECT id FROM points WHERE camera < 5 ORDER BY v <=> '[1,0]' LIMIT 12 LOOP
        found := found || r.id || (SELECT id FROM points WHERE camera = r.id % 10 ORDER BY v <-> '[0,1]' LIMIT 1);
    END LOOP;
    RAISE NOTICE '%', found;
END $$;

-- How a scan goes on. Off: no more than ef_search rows.
SET pgclip.ef_search = 5;
SET pgclip.iterative_scan = off;
SELECT count(*) <= 5 AS few FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 10) n;
SELECT count(*) < 5 AS few FROM (SELECT id FROM points WHERE id % 2 = 0 ORDER BY v <=> '[1,0]' LIMIT 5) n;
SET pgclip.iterative_scan = strict;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 10) n;
SET pgclip.iterative_scan = relaxed;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]') n;
RESET pgclip.ef_search;
-- The bound on what a scan looks at, told once a statement.
SET pgclip.max_scan_tuples = 100;
SELECT count(*) FROM (SELECT id FROM points WHERE note = 'nowhere' ORDER BY v <=> '[1,0]' LIMIT 10) n;
SELECT count(*) FROM questions q
    CROSS JOIN LATERAL (SELECT id FROM points WHERE note = 'nowhere' ORDER BY points.v <=> q.v LIMIT 10) n
WHERE q.id < 4;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 10) n;
RESET pgclip.max_scan_tuples;
SELECT count(*) FROM (SELECT id FROM points WHERE note = 'nowhere' ORDER BY v <=> '[1,0]' LIMIT 10) n;
RESET pgclip.iterative_scan;

-- Who may look into an index.
SELECT format_version, metric, dimensions, m, layout, filter_columns, text_direction, pages * 8192 = bytes AS bytes,
    free_bytes > 0 AS free_bytes, elements, dead, "rows", edges > 0 AS edges, layers[1], cardinality(layers) > 1 AS upper
FROM clip_index_stats('by_cosine');
SELECT metric, m, filter_columns, elements, "rows" FROM clip_index_stats('by_l2');
SELECT metric, m, filter_columns, elements, "rows" FROM clip_index_stats('by_ip');
SELECT * FROM clip_index_check('by_cosine');
SELECT * FROM clip_index_check('by_l2');
SELECT * FROM clip_index_check('by_ip');
SELECT * FROM clip_index_check(NULL);
-- What searches find of what is nearest; bounds; nothing to find.
SELECT clip_index_recall('by_cosine') > 0.9 AS cosine, clip_index_recall('by_l2', 3) > 0.9 AS l2,
    clip_index_recall('by_ip', 1, 1000) > 0.8 AS ip;
SELECT clip_index_recall('by_cosine', 0);
SELECT clip_index_recall('by_cosine', 10, 1001);
SELECT clip_index_recall('by_cosine', NULL);
SELECT clip_index_recall('points_pkey');
SET pgclip.target_recall = 1.1;
SET pgclip.target_recall = 0.5;
SELECT count(*) FROM (SELECT id FROM points ORDER BY v <=> '[1,0]' LIMIT 10) n;
RESET pgclip.target_recall;
CREATE ROLE clip_index_visitor;
GRANT SELECT ON points TO clip_index_visitor;
SET ROLE clip_index_visitor;
SELECT * FROM clip_index_check('by_cosine');
SELECT elements FROM clip_index_stats('by_cosine');
SELECT clip_index_recall('by_cosine');
RESET ROLE;
ALTER TABLE points OWNER TO clip_index_visitor;
SET ROLE clip_index_visitor;
SELECT * FROM clip_index_check('by_cosine');
SELECT elements FROM clip_index_stats('by_cosine');
RESET ROLE;
ALTER TABLE points OWNER TO CURRENT_USER;
DROP OWNED BY clip_index_visitor;
DROP ROLE clip_index_visitor;
SELECT * FROM clip_index_check('points');
SELECT * FROM clip_index_check('points_pkey');
SELECT * FROM clip_index_stats('points_pkey');
