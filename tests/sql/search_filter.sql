-- The filter of text_search and image_search.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
SET client_min_messages = warning;
CREATE TYPE lane AS ENUM ('left', 'right');
ALTER TYPE lane ADD VALUE 'middle' BEFORE 'right';
CREATE DOMAIN camera AS varchar(20) CHECK (value <> 'none');
CREATE TABLE photos (gone int, id bigint PRIMARY KEY, "Camera ""x""" camera, code varchar(4), taken_at timestamptz, day date, lane lane, speed numeric, ratio float8, night boolean,
    tags text[], place point, note text, unit uuid, fixed char(4), net inet, info jsonb, raw bytea, image bytea, embedding embedding);
ALTER TABLE photos DROP COLUMN gone;
SELECT clip_attach('photos');
INSERT INTO photos SELECT i, 'north ' || i % 3, 'c' || i, '2026-11-01 00:00+00'::timestamptz + i * interval '1 day', '2026-11-01'::date + i, (ARRAY['left', 'middle', 'right']::lane[])[i % 3 + 1],
    i + 0.12345678901234567890123, i / 10::float8, i % 2 = 0, ARRAY['t' || i % 2, 'all'], point(i, i), CASE WHEN i > 3 THEN 'note ' || i END, md5(i::text)::uuid, 'f' || i, ('10.0.0.' || i)::inet,
    jsonb_build_object('i', i), '\x00ff', CASE WHEN i = 1 THEN decode(:'one', 'base64') END, NULL FROM generate_series(1, 6) AS i;
UPDATE photos SET embedding = encode_text('photo ' || id) WHERE id > 1;
-- By text and by image: the same rows.
CREATE FUNCTION hits(filter jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((hit).id::text, ' ' ORDER BY (hit).id) FROM text_search(NULL::photos, 'x', filter => $1)
$$;
SELECT hits(NULL) AS null, hits('{}') AS empty;
SELECT hits('{"id": 3}'), hits('{"id": "3"}'), hits('{"id": [3, 5, 99]}') AS list, hits('{"id": []}') AS empty, hits('{"id": {"=": [3, 4]}}') AS equal;
SELECT hits('{"id": {"<>": 3}}') AS other, hits('{"id": {"<>": [3, 4]}}') AS none_of, hits('{"id": {"<>": []}}') AS all, hits('{"id": {">": 2, "<=": 4}}') AS range, hits('{"id": {">=": 2, "<": 2}}') AS no;
SELECT hits('{"note": null}') AS null, hits('{"note": {"=": null}}') AS equal, hits('{"note": {"<>": null}}') AS other, hits('{"image": null}') AS image, hits('{"embedding": {"<>": null}}') AS embedding;
SELECT hits('{"Camera \"x\"": "north 1"}') AS domain, hits('{"Camera \"x\"": ["north 1", "none", "a name longer than the domain takes"]}') AS domains, hits('{"code": "c3"}') AS varchar, hits('{"code": ["c3", "c3 and more"]}') AS varchars,
       hits('{"fixed": "f2"}') AS char, hits('{"fixed": ["f2", "f3  "]}') AS chars;
SELECT hits('{"taken_at": {">=": "2026-11-03", "<": "2026-11-05 00:00+00"}}') AS timestamptz, hits('{"day": {">": "2026-11-05"}}') AS date, hits('{"lane": {">": "left"}}') AS enum, hits('{"lane": ["left", "middle"]}') AS enums;
SELECT hits('{"speed": 2.12345678901234567890123}') AS numeric, hits('{"speed": {">": 2.12345678901234567890122, "<=": 3.12345678901234567890123}}') AS digits, hits('{"speed": {"<": 1e400}}') AS large, hits('{"ratio": [0.1, 3e-1]}') AS float,
       hits('{"night": true}') AS yes, hits('{"night": {"<>": true}}') AS no, hits('{"night": "off"}') AS off;
SELECT hits('{"tags": "{t1,all}"}') AS array, hits('{"unit": "c4ca4238-a0b9-2382-0dcc-509a6f75849b"}') AS uuid, hits('{"net": {"<": "10.0.0.3"}}') AS inet, hits('{"info": "{\"i\": 2}"}') AS jsonb, hits('{"raw": "\\x00ff"}') AS bytea;
SELECT hits('{"id": {">": 1}, "night": true, "lane": ["left", "right"], "note": null}') AS together;
SELECT (hit).id, round(score::numeric, 2) AS score FROM image_search(NULL::photos, decode(:'one', 'base64'), filter => '{"id": {"<=": 1}}');
SELECT count(*) FROM image_search(NULL::photos, decode(:'one', 'base64'), 10, NULL, NULL, NULL, false, '{"lane": "left"}');
-- The k best of the rows that pass; together with a least score.
SELECT count(*), bool_and((hit).night) FROM text_search(NULL::photos, 'x', k => 2, filter => '{"night": true}');
SELECT count(*) FROM text_search(NULL::photos, 'x', min_score => 2, filter => '{"night": true}');
-- A filter from a row; from a prepared statement; with the caller's own time zone.
SELECT f->>'id' AS id, (hit).id FROM (VALUES ('{"id": 2}'::jsonb), ('{"id": 3}'), (NULL)) AS l(f), text_search(NULL::photos, 'x', k => 1, filter => f) WHERE f IS NOT NULL;
PREPARE by_filter(jsonb) AS SELECT hits($1);
EXECUTE by_filter('{"id": 4}');
EXECUTE by_filter(jsonb_build_object('id', jsonb_build_array(4, 5)));
SET TimeZone = 'Asia/Tokyo';
SELECT hits('{"taken_at": {">=": "2026-11-05 09:00", "<": "2026-11-06"}}');
RESET TimeZone;
-- Values are values: nothing of them is SQL.
SELECT hits('{"note": "x'' OR true --"}'), hits(jsonb_build_object('note', E'\\''; DROP TABLE photos; --'));
-- Views and partitions.
CREATE VIEW nights AS SELECT id AS number, embedding AS feature, image, lane FROM photos WHERE night;
SELECT string_agg((hit).number::text, ' ' ORDER BY (hit).number) FROM text_search(NULL::nights, 'x', filter => '{"lane": {"<=": "middle"}}');
SELECT * FROM text_search(NULL::nights, 'x', filter => '{"id": 1}');
SELECT * FROM text_search(NULL::nights, 'x', filter => '{"image": "x"}');

\set SHOW_CONTEXT always
-- What a type does not take is its own error, with the column as context.
SELECT hits('{"id": "three"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": "three"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": [1, 2.5]}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": true}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": 1e30}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"lane": "centre"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"Camera \"x\"": "y", "taken_at": {">": "yesterday morning"}}');
SELECT * FROM image_search(NULL::photos, 'not looked at', filter => '{"unit": "x"}');
\set SHOW_CONTEXT never
-- What is no filter.
SELECT * FROM text_search(NULL::photos, 'x', filter => '[1]');
SELECT * FROM text_search(NULL::photos, 'x', filter => '"id"');
SELECT * FROM text_search(NULL::photos, 'x', filter => 'null');
SELECT * FROM text_search(NULL::photos, 'x', filter => jsonb_build_array(repeat('long ', 100)));
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"camera": "north 1"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"gone": 1}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"........pg.dropped.1........": 1}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"ctid": "(0,1)"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {"~": "x"}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {"= 1 OR true OR id =": 1}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {"=": {"=": 1}}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {"<": null}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": {"<": [1]}}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": [1, null]}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": [1, [2]]}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"id": [{"=": 1}]}');
SELECT * FROM text_search(NULL::photos, 'x', filter => ('{"id": ' || repeat('[', 500) || repeat(']', 500) || '}')::jsonb);
-- What cannot be compared.
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"image": "\\x00"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"embedding": "[1,2]"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"place": "(1,1)"}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"tags": ["{t1,all}"]}');
SELECT hits('{"place": {"<>": null}}');

-- Values of these would be read by running somebody's checks with the searcher's rights.
CREATE FUNCTION told(anyelement) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE WARNING 'the check ran'; RETURN true; END$$;
CREATE DOMAIN checked AS text CHECK (told(VALUE));
CREATE TYPE part AS (a checked, b int);
CREATE TYPE checked_range AS RANGE (subtype = checked);
CREATE TABLE parts (id int PRIMARY KEY, part part, list checked[], parts part[], range checked_range, multirange checked_multirange, plain text[], numbers int4range, embedding embedding(128));
CREATE DOMAIN wrapped AS checked[];
ALTER TABLE parts ADD wrapped wrapped;
CREATE DOMAIN padded AS char(6);
ALTER TABLE parts ADD padded padded;
INSERT INTO parts (id, plain, numbers, padded, embedding) VALUES (1, '{a}', '[1,3)', 'abcd', encode_text('x'));
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"part": "(x,1)"}');
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"list": "{x}"}');
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"parts": ["{}"]}');
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"range": "[a,b)"}');
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"multirange": {"<": "{[a,b)}"}}');
SELECT * FROM text_search(NULL::parts, 'x', filter => '{"wrapped": "{x}"}');
SELECT (hit).id FROM text_search(NULL::parts, 'x', filter => '{"part": null, "list": null, "plain": "{a}", "numbers": "[1,2]"}');
-- A domain's value is compared in its whole length.
SELECT (hit).id FROM text_search(NULL::parts, 'x', filter => '{"padded": "abcd"}');

-- Rights are the caller's: a column that may not be read cannot be filtered on.
CREATE ROLE filter_reader;
GRANT SELECT (id, embedding) ON photos TO filter_reader;
CREATE VIEW readable AS SELECT id, embedding FROM photos;
GRANT SELECT ON readable TO filter_reader;
SET ROLE filter_reader;
SELECT count(*) FROM text_search(NULL::readable, 'x', filter => '{"id": 1}');
SELECT * FROM text_search(NULL::photos, 'x', filter => '{"note": "note 4"}');
RESET ROLE;
DROP OWNED BY filter_reader;
DROP ROLE filter_reader;
-- An operator of a user's own is not taken for the type's.
CREATE SCHEMA trap;
CREATE FUNCTION trap.equal(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR trap.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.equal);
SET search_path = trap, public, pg_catalog;
SELECT hits('{"id": 3}');
RESET search_path;

-- The conditions reach an index: of the filter, or of the embedding with filter columns.
CREATE TABLE many (id int PRIMARY KEY, lane int8, embedding embedding(128));
INSERT INTO many SELECT i, i % 4, (SELECT array_agg(cos(i * j)) FROM generate_series(1, 128) AS j)::real[] FROM generate_series(1, 2000) AS i;
CREATE INDEX graph ON many USING clip_hnsw (embedding, lane);
ANALYZE many;
CREATE FUNCTION scans(index regclass, k int, filter jsonb, OUT used boolean, OUT rows bigint, OUT ids int[]) LANGUAGE plpgsql AS $$
DECLARE before bigint := pg_stat_get_xact_numscans(index);
BEGIN
    SELECT count(*), (array_agg((hit).id))[1:3] INTO rows, ids FROM text_search(NULL::many, 'x', k, filter => scans.filter);
    used := pg_stat_get_xact_numscans(index) > before;
END $$;
SELECT used, rows, ids FROM scans('many_pkey', 10, '{"id": 7}');
SELECT used, rows, ids FROM scans('many_pkey', 10, '{"id": [7, 8]}');
SET enable_seqscan = off;
SET enable_sort = off;
SELECT used, rows FROM scans('graph', 10, '{"lane": {">": 2}}');
SELECT used, rows FROM scans('graph', 500, '{"lane": 3}');
