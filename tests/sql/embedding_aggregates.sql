-- sum and avg of embeddings: NULLs, groups, windows, exactness, parallel plans.

SELECT sum(e), avg(e) FROM (VALUES ('[1,2]'::embedding), ('[3,4]'), (NULL), ('[5,-6]')) v(e);
SELECT sum(e), avg(e) FROM (VALUES (NULL::embedding), (NULL)) v(e);
SELECT sum(e), avg(e) FROM (SELECT '[1]'::embedding WHERE false) v(e);
SELECT g, sum(e), avg(e), count(e)
    FROM (VALUES (1, '[1]'::embedding), (2, '[2,2]'), (1, '[3]'), (3, NULL)) v(g, e)
    GROUP BY g ORDER BY g;
SELECT i, sum(e) OVER w, avg(e) OVER w
    FROM (SELECT i, ARRAY[i, -i]::embedding FROM generate_series(1, 5) i) v(i, e)
    WINDOW w AS (ORDER BY i ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING);
SELECT avg(DISTINCT e) FROM (VALUES ('[1]'::embedding), ('[1]'), ('[2]')) v(e);
SELECT sum(e) FILTER (WHERE i > 1), sum(e ORDER BY i)
    FROM (VALUES (1, '[1]'::embedding), (2, '[2]'), (3, '[4]')) v(i, e);

-- fp16 alone would stop counting at 2048, and single precision loses the small ones among large.
SELECT sum(e) FROM (SELECT '[1]'::embedding FROM generate_series(1, 10000)) v(e);
SELECT sum(e) FROM (SELECT CASE i WHEN 1 THEN '[65504]' WHEN 100002 THEN '[-65504]'
        ELSE '[0.0001]' END::embedding FROM generate_series(1, 100002) i) v(e);
-- The mean of large numbers does not overflow on the way, their sum does.
SELECT avg(e) FROM (VALUES ('[65504]'::embedding), ('[65504]')) v(e);
SELECT sum(e) FROM (VALUES ('[1,65504]'::embedding), ('[1,65504]')) v(e);
SELECT sum(e) FROM (VALUES ('[1]'::embedding), ('[1,2]')) v(e);

-- In parallel.
CREATE TABLE measured AS
    SELECT i, ARRAY[i, -i / 7.0, 1]::float8[]::embedding AS e FROM generate_series(1, 30000) i;
CREATE TABLE uneven AS SELECT i, CASE WHEN i = 20000 THEN '[1,2]' ELSE '[1]' END::embedding AS e
    FROM generate_series(1, 20000) i;
ANALYZE measured, uneven;
SELECT avg(e) AS serial FROM measured \gset
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT avg(e) FROM measured;
SELECT avg(e) = :'serial' AS same, avg(e) FROM measured;
SELECT i % 3 AS g, avg(e), dims(sum(e - e)) FROM measured GROUP BY g ORDER BY g;
SELECT avg(e) FROM measured WHERE i < 0;
SELECT sum(e) FROM uneven;

-- The parts are of no use to anybody else.
SELECT embedding_sum(NULL);
SELECT embedding_deserialize('\x00', NULL);
