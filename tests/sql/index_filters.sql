-- Filter columns of clip_hnsw against a sequential scan: every type at its limits, every operator
-- with every type of its family, lists, NULLs, and what depends on the session. Only differences
-- are printed, and how much was compared.
SET client_min_messages = warning;
SET pgclip.iterative_scan = relaxed;
SET jit = off;
CREATE TABLE results (condition text, found int, differences text[], in_index boolean);

-- Compares the rows of a table (as t) that meet a condition, for each row of constants (as c):
-- index scans in a nested loop, where each constant is a rescan, with sequential scans.
CREATE PROCEDURE compare(tbl text, constants text, condition text) LANGUAGE plpgsql AS $$
DECLARE
    query text := format(
        'SELECT c.id || '':'' || r.id AS x FROM %s AS c CROSS JOIN LATERAL
         (SELECT t.id FROM %s AS t WHERE %s ORDER BY t.e <=> ''[1,0]'') AS r', constants, tbl, condition);
    line text; plan text := ''; wanted text[]; found text[];
BEGIN
    PERFORM set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true),
            set_config('enable_sort', 'on', true), set_config('enable_bitmapscan', 'off', true);
    EXECUTE 'SELECT coalesce(array_agg(x), ''{}'') FROM (' || query || ') AS q' INTO wanted;
    PERFORM set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true),
            set_config('enable_sort', 'off', true);
    EXECUTE 'SELECT coalesce(array_agg(x), ''{}'') FROM (' || query || ') AS q' INTO found;
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
        plan := plan || line || E'\n';
    END LOOP;
    INSERT INTO results VALUES (format('%s, %s: %s', tbl, constants, condition), cardinality(found),
        (SELECT array_agg('missing ' || x) FROM (SELECT unnest(wanted) EXCEPT ALL SELECT unnest(found)) AS m(x)) ||
        (SELECT array_agg('extra ' || x) FROM (SELECT unnest(found) EXCEPT ALL SELECT unnest(wanted)) AS m(x)),
        plan ~ 'Index Scan using' AND plan ~ 'Index Cond:' AND plan !~ 'Filter:');
END $$;

-- What was compared since the last call. Up to 17 a list beside an order is no index condition.
CREATE FUNCTION summary(OUT conditions bigint, OUT rows bigint, OUT wrong bigint, OUT not_in_index bigint)
LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM results WHERE differences IS NULL AND (in_index
                      OR current_setting('server_version_num')::int < 180000 AND condition ~ 'ANY') RETURNING *)
    SELECT count(*), sum(found), (SELECT count(*) FROM results WHERE differences IS NOT NULL),
           (SELECT count(*) FROM results AS r WHERE NOT in_index AND r.condition NOT IN (SELECT g.condition FROM gone AS g))
    FROM gone
$$;

-- Tables of values (t_…) and of constants (c_…). One half of the values comes in before the index is
-- made. There are 7 different vectors, so that rows of one vector have different values.
CREATE PROCEDURE fill(name text, type text, VARIADIC list text[]) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE c_%s AS SELECT id, v::%s AS v FROM unnest($1) WITH ORDINALITY AS l(v, id)', name, type) USING list;
    EXECUTE format('CREATE TABLE t_%s (id serial, v %s, e embedding(2))', name, type);
    FOR round IN 1..2 LOOP
        EXECUTE format('INSERT INTO t_%1$s (v, e) SELECT v, ARRAY[cos(id %% 7 + $1), sin(id %% 7 + $1)]::real[] FROM c_%1$s', name) USING round;
        IF round = 1 THEN EXECUTE format('CREATE INDEX ON t_%s USING clip_hnsw (e, v)', name); END IF;
    END LOOP;
END $$;

CREATE PROCEDURE compare_all(types text[], operators text[] DEFAULT '{<,<=,=,>=,>}') LANGUAGE plpgsql AS $$
DECLARE a text; b text; o text;
BEGIN
    FOREACH a IN ARRAY types LOOP
        CALL compare('t_' || a, '(SELECT 1 AS id)', 't.v IS NULL');
        CALL compare('t_' || a, '(SELECT 1 AS id)', 't.v IS NOT NULL');
        FOREACH b IN ARRAY types LOOP
            FOREACH o IN ARRAY operators LOOP
                CALL compare('t_' || a, 'c_' || b, format('t.v %s c.v', o));
            END LOOP;
            -- A list of each constant with its neighbours, NULLs among them.
            CALL compare('t_' || a, format('(SELECT id, array_agg(v) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) AS l FROM c_%s)', b),
                         't.v = ANY (c.l)');
            CALL compare('t_' || a, 'c_' || b, 't.v = c.v AND t.v IS NOT NULL');
            CALL compare('t_' || a, 'c_' || b, 't.v = c.v AND t.v IS NULL');
            CONTINUE WHEN cardinality(operators) = 1;
            CALL compare('t_' || a, format('(SELECT x.id * 100 + y.id AS id, x.v, y.v AS w FROM c_%1$s AS x, c_%1$s AS y)', b),
                         't.v >= c.v AND t.v < c.w');
            CALL compare('t_' || a, format('(SELECT id, array_agg(v) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) AS l FROM c_%s)', b),
                         't.v > ANY (c.l)');
        END LOOP;
    END LOOP;
END $$;

CALL fill('int2', 'int2', '-32768', '-32767', '-1', NULL, '0', '1', '7', '32766', '32767');
CALL fill('int4', 'int4', '-2147483648', '-32769', '-32768', '-1', '0', NULL, '1', '7', '32767', '32768', '2147483647');
CALL fill('int8', 'int8', '-9223372036854775808', '-2147483649', '-32768', '-1', '0', '1', '7', '2147483647', '2147483648', '9223372036854775807', NULL);
CALL compare_all('{int2,int4,int8}');
CALL fill('float4', 'float4', '-infinity', '-3.4e38', '-0.1', '-1e-45', '-0', NULL, '0', '1e-45', '0.1', '1', '16777216', '3.4e38', 'infinity', 'NaN');
CALL fill('float8', 'float8', '-infinity', '-1.7e308', '-0.1', '-5e-324', '-0', NULL, '0', '5e-324', '0.1', '0.10000000149011612', '1', '16777217', '3.4e38', '1.7e308', 'infinity', 'NaN');
CALL compare_all('{float4,float8}');
CALL fill('bool', 'bool', 'true', 'false', NULL);
CALL compare_all('{bool}');
CALL fill('oid', 'oid', '0', '1', '2147483647', '2147483648', '4294967295', NULL);
CALL compare_all('{oid}');
CALL fill('regclass', 'regclass', 'pg_class', 'pg_proc', NULL);
CALL compare('t_regclass', 'c_regclass', 't.v = c.v');
SELECT * FROM summary();

-- Dates and times, in time zones where clocks are changed: by an hour, by a day, by two weeks.
CALL fill('date', 'date', '-infinity', '4713-01-01 BC', '1969-12-31', '1999-12-31', '2000-01-01', '2011-12-29', '2011-12-30', '2011-12-31', '2026-10-24', '2026-10-25',
    '2026-10-26', '294276-12-31', '294277-01-01', '5874897-12-31', 'infinity', NULL);
CALL fill('timestamp', 'timestamp', '-infinity', '4713-01-01 BC', '1999-12-31 23:59:59.999999', '2000-01-01', '2000-01-01 00:00:00.000001', '2011-12-29 23:59', '2011-12-30 12:00',
    '2011-12-31', '2026-03-29 01:59:59', '2026-03-29 02:30', '2026-03-29 03:00', '2026-10-25 00:00', '2026-10-25 01:59', '2026-10-25 02:00', '2026-10-25 02:30', '2026-10-25 03:00',
    '2026-11-01 12:00', '294276-12-31 23:59:59.999999', 'infinity', NULL);
CALL fill('timestamptz', 'timestamptz', '-infinity', '4713-01-02 00:00+00 BC', '1999-12-31 23:59:59.999999+00', '2000-01-01 00:00+00', '2011-12-29 12:00+00', '2011-12-30 09:59:59+00',
    '2011-12-30 10:00+00', '2011-12-31 10:00+00', '2026-03-29 00:59:59+00', '2026-03-29 01:00+00', '2026-10-24 22:00+00', '2026-10-24 23:59+00', '2026-10-25 00:00+00', '2026-10-25 00:30+00',
    '2026-10-25 01:00+00', '2026-10-25 01:30+00', '2026-10-25 02:00+00', '2026-11-01 12:00+00', '294276-12-31 23:59:59.999999+00', 'infinity', NULL);
SET TimeZone = 'UTC';
CALL compare_all('{date,timestamp,timestamptz}');
SET TimeZone = 'Europe/Berlin';
CALL compare_all('{date,timestamp,timestamptz}');
SET TimeZone = 'Pacific/Apia';
CALL compare_all('{date,timestamp,timestamptz}');
SET TimeZone = 'America/New_York';
CALL compare_all('{date,timestamp,timestamptz}');
SET TimeZone = '<A>167<B>-167,M3.1.0,M10.5.0/2';
CALL compare_all('{date,timestamp,timestamptz}');
SET TimeZone = 'UTC';
SELECT * FROM summary();

-- An enum whose values were added out of their order.
CREATE TYPE lane AS ENUM ('left', 'right');
ALTER TYPE lane ADD VALUE 'middle' BEFORE 'right';
ALTER TYPE lane ADD VALUE 'shoulder' BEFORE 'left';
ALTER TYPE lane ADD VALUE 'off';
CALL fill('enum', 'lane', 'left', 'right', NULL, 'middle', 'shoulder', 'off');
CALL compare_all('{enum}');
CREATE DOMAIN some_lane AS lane;
CALL fill('enum_domain', 'some_lane', 'left', 'middle', 'shoulder', NULL);
CALL compare('t_enum_domain', 'c_enum', 't.v::lane <= c.v');

-- Kept as hashes: equality alone.
CALL fill('uuid', 'uuid', '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000001', '00000000-0000-0001-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', NULL);
CALL compare_all('{uuid}', '{=}');
CALL fill('text', 'text', '', ' ', 'a', 'A', 'é', 'é', 'north gate', 'north gate ', repeat('long', 4000), repeat('long', 4000) || '.', NULL);
CALL compare_all('{text}', '{=}');
CALL fill('varchar', 'varchar(10)', '', 'a', 'A', 'north gate', NULL);
CALL compare_all('{varchar}', '{=}');
CALL compare('t_varchar', 'c_text', 't.v = c.v');
CREATE DOMAIN name AS varchar(20) CHECK (value <> 'x');
CALL fill('domain', 'public.name', '', 'a', 'A', 'north gate', NULL);
CALL compare('t_domain', 'c_text', 't.v = c.v');
CALL compare('t_domain', 'c_varchar', 't.v = c.v');
-- Big values lie outside of their rows.
CREATE TABLE c_big AS SELECT 1 AS id, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) AS i) AS v;
CREATE TABLE t_big AS SELECT id, v, '[1,0]'::embedding AS e FROM c_big;
CREATE INDEX ON t_big USING clip_hnsw (e, v);
INSERT INTO t_big SELECT * FROM t_big;
CALL compare('t_big', 'c_big', 't.v = c.v');
CALL compare('t_big', '(SELECT id, ARRAY[v, v] AS l FROM c_big)', 't.v = ANY (c.l)');
-- Texts of other bytes may be equal, where the server knows such collations.
DO $$
BEGIN
    CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CALL fill('no_case', 'text COLLATE no_case', 'a', 'A', 'b', 'É', 'é', 'NORTH gate', 'north GATE', NULL);
    CALL compare_all('{no_case}', '{=}');
    IF (SELECT r.found < 26 FROM results AS r WHERE condition = 't_no_case, c_no_case: t.v = c.v') THEN RAISE WARNING 'equal texts were not compared'; END IF;
    DELETE FROM results WHERE condition ~ 'no_case' AND differences IS NULL AND (in_index OR condition ~ 'ANY');
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
SELECT * FROM summary();

-- Lists: none, empty, of NULLs, long, with two dimensions.
CREATE TABLE lists (id int, l int[]);
INSERT INTO lists VALUES (1, NULL), (2, '{}'), (3, '{NULL}'), (4, '{7,NULL,7,-1}'), (5, '{{1,7},{0,NULL}}'), (6, '[5:6]={1,0}'),
    (7, (SELECT array_agg(CASE WHEN i % 7 = 0 THEN i END ORDER BY md5(i::text)) FROM generate_series(-5000, 5000) AS i)),
    (8, (SELECT array_agg(i ORDER BY md5(i::text)) FROM generate_series(-40000, 40000) AS i));
CALL compare('t_int4', 'lists', 't.v = ANY (c.l)');
CALL compare('t_int2', 'lists', 't.v = ANY (c.l)');
CALL compare('t_int8', 'lists', 't.v = ANY (c.l)');
CALL compare('t_int8', 'lists', 't.v < ANY (c.l)');
CALL compare('t_int8', 'lists', 't.v >= ANY (c.l) AND t.v <> 7 AND t.v IS NOT NULL');
UPDATE results SET in_index = true WHERE condition ~ '<> 7';
SELECT * FROM summary();

-- Constants that the planner sees, parameters of a plan for all values, and NULL as one.
SET enable_seqscan = off;
SET enable_sort = off;
CREATE FUNCTION found(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE ids text;
BEGIN
    EXECUTE 'SELECT string_agg(v::text, '' '' ORDER BY v) FROM (SELECT v FROM ' || condition || ' ORDER BY e <=> ''[1,0]'') AS r' INTO ids;
    RETURN ids;
END $$;
SELECT found('t_bool WHERE v') AS yes, found('t_bool WHERE NOT v') AS no, found('t_bool WHERE v = true') AS equal,
       found('t_bool WHERE v IS TRUE') AS is_true, found('t_bool WHERE v IS NOT TRUE') AS is_not_true, found('t_bool WHERE v IS UNKNOWN') AS unknown;
SELECT found('t_int4 WHERE v IN (7, NULL, 1)') AS list, found('t_int4 WHERE v BETWEEN 0 AND 32767') AS range,
       found('t_int4 WHERE v > 9223372036854775807') AS beyond, found('t_int4 WHERE v = 7 OR v = -1') AS either, found('t_int2 WHERE v < 40000') AS below;
SELECT found('t_int4 WHERE v = NULL') AS null, found('t_int4 WHERE v = (SELECT max(v) FROM c_int2)') AS subquery;
SET plan_cache_mode = force_generic_plan;
PREPARE one(int8) AS SELECT string_agg(v::text, ' ' ORDER BY v) FROM (SELECT v FROM t_int4 WHERE v = $1 ORDER BY e <=> '[1,0]') AS r;
EXECUTE one(7);
EXECUTE one(NULL);
EXECUTE one(9223372036854775807);
PREPARE list(int8[]) AS SELECT string_agg(v::text, ' ' ORDER BY v) FROM (SELECT v FROM t_int4 WHERE v = ANY ($1) ORDER BY e <=> '[1,0]') AS r;
EXECUTE list('{7,1,9223372036854775807,NULL}');
EXECUTE list('{}');
EXECUTE list(NULL);
PREPARE since(date) AS SELECT count(*), min(v), max(v) FROM (SELECT v FROM t_timestamptz WHERE v >= $1 AND v < $1 + 3 ORDER BY e <=> '[1,0]') AS r;
EXECUTE since('2026-10-24');
SET TimeZone = 'America/New_York';
EXECUTE since('2026-10-24');
SET TimeZone = 'UTC';
RESET plan_cache_mode;

-- Many columns, conditions on some of them, rows of one vector that differ in one column alone.
CREATE TABLE t_many (id serial, a int2, b bool, c float8, d date, f text, g uuid, h timestamptz, e embedding(2));
CREATE INDEX ON t_many USING clip_hnsw (e, a, b, c, d, f, g, h);
INSERT INTO t_many (a, b, c, d, f, g, h, e)
SELECT nullif(i % 5, 4), i % 2 = 0, i % 7, '2026-11-01'::date + i % 30, 'camera ' || i % 3, md5((i % 4)::text)::uuid, '2026-11-01 00:00+00'::timestamptz + i % 50 * interval '1 hour',
       ARRAY[cos(i % 11), sin(i % 11)]::real[] FROM generate_series(1, 500) AS i;
CREATE TABLE c_many AS SELECT i AS id, i % 5 AS a, i % 2 = 0 AS b, i % 7 AS c, '2026-11-01'::date + i AS d, 'camera ' || i % 4 AS f, md5((i % 4)::text)::uuid AS g FROM generate_series(1, 20) AS i;
CALL compare('t_many', 'c_many', 't.a = c.a AND t.b = c.b');
CALL compare('t_many', 'c_many', 't.a IS NULL AND t.f = c.f');
CALL compare('t_many', 'c_many', 't.a = c.a AND t.b = c.b AND t.c >= c.c AND t.d < c.d AND t.f = c.f AND t.g = c.g AND t.h > c.d');
CALL compare('t_many', 'c_many', 't.f = c.f AND t.d IS NULL');
DELETE FROM t_many WHERE id % 3 = 0;
UPDATE t_many SET f = 'moved' WHERE id % 5 = 0;
VACUUM t_many;
CALL compare('t_many', 'c_many', 't.a = c.a AND t.f = c.f');
CALL compare('t_many', '(SELECT 1 AS id)', 't.f = ''moved''');
SELECT * FROM summary();
SELECT condition, differences[1:5], in_index FROM results;

-- What an index does not filter by.
CREATE TABLE other (j jsonb, n numeric, p point, c char(3), e embedding(2));
CREATE INDEX ON other USING clip_hnsw (e, j);
CREATE INDEX ON other USING clip_hnsw (e, n);
CREATE INDEX ON other USING clip_hnsw (e, c);
CREATE INDEX ON other USING clip_hnsw (n);
SELECT count(*) FROM pg_opclass WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'clip_hnsw') AND NOT amvalidate(oid);
-- What somebody adds to a family is refused, not answered wrongly.
CREATE FUNCTION longer(int4, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 > length($2); END';
CREATE OPERATOR >>> (LEFTARG = int4, RIGHTARG = text, FUNCTION = longer);
ALTER OPERATOR FAMILY integer_filter_ops USING clip_hnsw ADD OPERATOR 5 >>> (int4, text);
SELECT v FROM t_int4 WHERE v >>> 'x'::text ORDER BY e <=> '[1,0]';
