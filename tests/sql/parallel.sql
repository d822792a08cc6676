-- Functions that only read answer in the processes of a parallel query, also where its statement writes.
SET client_min_messages = warning;
CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding embedding(128), colour text, type text);
SELECT clip_attach('photos', attributes => 'vehicle:colour,type');
INSERT INTO photos (id, embedding, colour, type)
VALUES (1, clip_query('a red sedan'), 'red', 'Sedan'), (2, clip_query('a white bus'), 'white', 'Bus');
CREATE TABLE queries AS SELECT i AS id, CASE i % 2 WHEN 0 THEN 'a white bus' ELSE 'a red sedan' END AS query FROM generate_series(1, 4) AS i;
CREATE TABLE wanted AS SELECT id AS query, 2 - id % 2 AS hit FROM queries;
ANALYZE;
SELECT count(set_config(name, 'on', false)) AS forced FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE FUNCTION is_parallel(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text; found boolean := false;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || statement LOOP
        found := found OR line LIKE '%Gather%';
    END LOOP;
    RETURN found;
END
$$;
\set statement 'SELECT id, clip_query(query) AS prompt, encode_text(query) AS plain FROM queries'
SELECT is_parallel('CREATE TABLE encoded AS ' || :'statement');
CREATE TABLE encoded AS :statement;
SELECT count(*), count(DISTINCT prompt::text), count(DISTINCT plain::text) FROM encoded;
\set statement 'SELECT q.id, s.hit, s.score FROM queries AS q, text_search(NULL::photos, q.query, 1, attributes => ''hard'') AS s'
SELECT is_parallel('CREATE TABLE found AS ' || :'statement');
CREATE TABLE found AS :statement;
SELECT id, (hit).id AS hit, (hit).colour FROM found ORDER BY id;
\set statement 'SELECT p.id, f.attribute, f.value FROM photos AS p, clip_fill_attributes(p.embedding, ''vehicle'') AS f'
SELECT is_parallel('CREATE TABLE filled AS ' || :'statement');
CREATE TABLE filled AS :statement;
SELECT id, attribute, value FROM filled WHERE attribute <> 'make' ORDER BY id, attribute;
\set statement 'SELECT q.id, e.prompts FROM queries AS q, enhance_prompt(q.query) AS e'
SELECT is_parallel('CREATE TABLE enhanced AS ' || :'statement');
CREATE TABLE enhanced AS :statement;
SELECT count(*) FROM enhanced;
CREATE TABLE evaluated AS SELECT * FROM clip_evaluate('queries', 'wanted', 'photos', ARRAY[1]);
SELECT * FROM evaluated;
