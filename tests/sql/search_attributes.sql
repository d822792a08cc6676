-- text_search(…, attributes => 'hard' | 'soft'): what a sentence says about attributes, in the columns that hold them.
SET client_min_messages = warning;
CREATE TABLE photos (id int PRIMARY KEY, camera text, image bytea, embedding embedding(128), colour text, kind varchar(20), make text);
SELECT clip_attach('photos', attributes => 'vehicle:colour,type=kind,make');
-- Photo i is the i-th nearest to "a red sedan".
INSERT INTO photos (id, camera, embedding, colour, kind, make)
SELECT i, CASE WHEN i % 2 = 0 THEN 'north' ELSE 'south' END,
       (SELECT array_agg((60 - i) * u.a + (i - 1) * u.b ORDER BY n)
        FROM ROWS FROM (unnest(t.a::real[]), unnest(t.b::real[])) WITH ORDINALITY AS u(a, b, n))::embedding,
       (ARRAY['white', 'red', 'blue', NULL, 'grey'])[i % 5 + 1], (ARRAY['Bus', 'Sedan', NULL])[i % 3 + 1], CASE i WHEN 11 THEN 'Toyota' WHEN 12 THEN 'Honda' END
FROM generate_series(1, 60) AS i, (SELECT clip_query('a red sedan') AS a, clip_query('a man with a bag') AS b) AS t;
CREATE FUNCTION hits(query text, attributes text, k int DEFAULT 5, filter jsonb DEFAULT NULL, rerank text DEFAULT 'off', candidates int DEFAULT 50) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', (hit).id, (hit).colour, (hit).kind), ', ' ORDER BY place)
    FROM text_search(NULL::photos, $1, $3, attributes => $2, filter => $4, rerank => $5, candidates => $6) WITH ORDINALITY AS s (hit, score, place)
$$;
SELECT hits('a red sedan', NULL) AS plain, hits('a red sedan', 'off') AS off;

-- Hard: only rows that have the values, in order of distance; NULL is none.
SELECT hits('a red sedan', 'hard');
SELECT hits('a red car', 'hard');
SELECT hits('a red or white car', 'hard');
SELECT hits('a gray van', 'hard', 60) AS nothing;
SELECT hits('a red car', 'hard', 60, '{"camera": "north"}') AS with_filter;
SELECT hits('a Toyota', 'hard', 60), hits('a Toyota or a Honda', 'hard', 60), hits('a red car beside a blue bus', 'hard') AS subject;
SELECT hits('a red sedan', 'hard', 5, NULL, 'adaption') AS reranked;
-- What names nothing restricts nothing: no attribute, no vehicle, no domain.
SELECT hits('a car', 'hard') = hits('a car', NULL) AS car, hits('a man in a red coat', 'hard') = hits('a man in a red coat', NULL) AS man, hits('red', 'hard') = hits('red', NULL) AS none;
SELECT hits('a car', 'soft') = hits('a car', NULL) AS car, hits('a man in a red coat', 'soft') = hits('a man in a red coat', NULL) AS man;
SELECT (hit).id, (hit).colour FROM text_search(NULL::photos, 'red', 2, domain => 'vehicle', attributes => 'hard');
SELECT (hit).id, (hit).colour FROM text_search(NULL::photos, 'a white car', 2, enhance => false, attributes => 'hard');

-- Soft: the similarity, with one over the logit scale for each attribute that fits and against each that does not.
SELECT hits('a red sedan', 'soft', 12);
CREATE VIEW by_hand AS
    SELECT id, row_number() OVER (ORDER BY (embedding <=> clip_query('a red sedan')) - agreement / logit_scale, embedding <=> clip_query('a red sedan')) AS place
    FROM (SELECT *, CASE WHEN colour = 'red' THEN 1 WHEN colour <> 'red' THEN -1 ELSE 0 END + CASE WHEN kind = 'Sedan' THEN 1 WHEN kind <> 'Sedan' THEN -1 ELSE 0 END AS agreement FROM photos) AS p,
         (SELECT logit_scale FROM clip_models WHERE is_default) AS m;
SELECT count(*), bool_and((hit).id = id) AS same FROM text_search(NULL::photos, 'a red sedan', 60, attributes => 'soft') WITH ORDINALITY AS s (hit, score, place) JOIN by_hand USING (place);
-- The score stays the similarity; candidates is how many of the nearest rows are looked at; no row is lost.
SELECT bool_and(abs(score - (1 - ((hit).embedding <=> clip_query('a red sedan')))) < 1e-3) AS similarity FROM text_search(NULL::photos, 'a red sedan', attributes => 'soft');
SELECT hits('a red sedan', 'soft', 3, NULL, 'off', 5) AS five, hits('a red sedan', 'soft', 3, NULL, 'off', 1) AS none_beyond_k;
SELECT count(DISTINCT (hit).id) FROM text_search(NULL::photos, 'a red sedan', 60, attributes => 'soft', candidates => 10);
SELECT count(*), min(score) > 0.7 AS least FROM text_search(NULL::photos, 'a red sedan', 60, attributes => 'soft', min_score => 0.7);
SELECT hits('a red or white car', 'soft') AS either, hits('a red sedan', 'soft', 5, '{"camera": "north"}') AS with_filter;
-- Together with re-ranking, which starts from the moved similarities.
SELECT count(DISTINCT (hit).id) AS rows, bool_and(score BETWEEN -1 AND 1) AS scores FROM text_search(NULL::photos, 'a red sedan', 60, attributes => 'soft', rerank => 'adaption');
SELECT bool_and((s.hit).id = r.id) AS same FROM text_search(NULL::photos, 'a red sedan', 50, attributes => 'soft', rerank => 'adaption') WITH ORDINALITY AS s (hit, score, place),
    (SELECT clip_rerank(array_agg(embedding ORDER BY place), array_agg((1 - ((embedding <=> clip_query('a red sedan')) - agreement / logit_scale))::real ORDER BY place)) AS numbers, array_agg(id ORDER BY place) AS ids
     FROM (SELECT *, row_number() OVER (ORDER BY distance - agreement / logit_scale, distance) AS place
           FROM (SELECT *, CASE WHEN colour = 'red' THEN 1 WHEN colour <> 'red' THEN -1 ELSE 0 END + CASE WHEN kind = 'Sedan' THEN 1 WHEN kind <> 'Sedan' THEN -1 ELSE 0 END AS agreement, embedding <=> clip_query('a red sedan') AS distance FROM photos ORDER BY distance LIMIT 50) AS p,
                (SELECT logit_scale FROM clip_models WHERE is_default) AS m) AS p) AS o,
    LATERAL (SELECT o.ids[o.numbers[s.place]] AS id) AS r;
-- An embedding without a direction comes last, however well it agrees.
INSERT INTO photos (id, embedding, colour, kind) VALUES (0, array_fill(0, ARRAY[128])::real[]::embedding, 'red', 'Sedan');
SELECT (array_agg((hit).id))[61] AS last FROM text_search(NULL::photos, 'a red sedan', 100, attributes => 'soft');
DELETE FROM photos WHERE id = 0;

-- Columns that the caller names; in views, those that the view shows.
CREATE VIEW cars AS SELECT id AS number, embedding, colour, kind FROM photos WHERE id < 30;
CREATE VIEW hidden AS SELECT id, embedding, colour AS paint FROM photos;
SELECT (hit).number, (hit).colour FROM text_search(NULL::cars, 'a red Toyota', 2, attributes => 'hard');
SELECT * FROM text_search(NULL::hidden, 'a red Toyota', 2, attributes => 'hard');
SELECT (hit).id, (hit).paint FROM text_search(NULL::hidden, 'a red Toyota', 2, attributes => 'hard:colour=paint');
SELECT (hit).id, (hit).paint FROM text_search(NULL::hidden, 'a red Toyota', 2, attributes => 'soft: colour = "paint" ');
SELECT hits('a red sedan', 'hard:type=kind');
CREATE TABLE own (id int, "Colour, of it" text, "make""r" text, embedding embedding);
INSERT INTO own SELECT id, colour, make, embedding FROM photos;
SELECT (hit).id FROM text_search(NULL::own, 'a red Toyota', attributes => 'hard:colour="Colour, of it",make="make""r"');
SELECT * FROM text_search(NULL::own, 'a car', attributes => 'hard');
-- Attributes of one's own.
INSERT INTO clip_templates (domain, words) VALUES ('boat', '{boat,ferry}');
INSERT INTO clip_attributes (domain, attribute, value, words) VALUES ('boat', 'hull', 'wood', '{wooden}'), ('boat', 'colour', 'blue', '{blue}');
SELECT count(*) AS restricted FROM text_search(NULL::own, 'a wooden boat', attributes => 'hard:hull="make""r"');
SELECT (hit).id FROM text_search(NULL::own, 'a blue boat', 2, attributes => 'hard:colour="Colour, of it"');
SELECT hits('a blue boat', 'hard', 60) = hits('a blue boat', NULL, 60) AS of_another_domain;
-- Synonyms count at once.
UPDATE clip_attributes SET words = '{grey,slate}' WHERE value = 'grey';
SELECT hits('a slate car', 'hard', 2);
DELETE FROM clip_attributes WHERE NOT builtin;
DELETE FROM clip_templates WHERE NOT builtin;

-- What is wrong.
SELECT hits('x', 'firm');
SELECT hits('x', '');
SELECT hits('x', 'off:colour');
SELECT hits('x', 'hard:');
SELECT hits('x', 'hard:colour,');
SELECT hits('x', 'hard:Colour');
SELECT hits('x', 'hard:colour=');
SELECT hits('x', 'hard:colour,colour=kind');
SELECT hits('x', 'hard:colour=kind,type=kind');
SELECT hits('x', 'hard:weight');
SELECT hits('x', 'hard:colour=paint');
SELECT hits('x', 'hard:colour=id');
SELECT hits('x', 'soft:colour=embedding');
SELECT hits('x', 'soft', 5, NULL, 'off', 501);
SELECT hits('x', 'soft', 5, NULL, 'off', NULL);
SELECT count(*) FROM text_search(NULL::photos, NULL, attributes => 'firm');
-- Values are values: nothing of them is SQL.
INSERT INTO clip_attributes (attribute, value, words) VALUES ('colour', E'x'' OR true --\\', '{odd}');
SELECT hits('an odd car', 'hard') AS none, hits('an odd car', 'soft', 2) AS not_known_to_be_another;
DELETE FROM clip_attributes WHERE NOT builtin;
-- Operators of a user's own are not taken for the type's.
CREATE SCHEMA trap;
CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal);
CREATE FUNCTION trap.plus(int, int) RETURNS int LANGUAGE sql AS 'SELECT 0';
CREATE OPERATOR trap.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = trap.plus);
SET search_path = trap, public, pg_catalog;
SELECT hits('a red sedan', 'hard', 2), hits('a red sedan', 'soft', 2);
RESET search_path;
-- Rights are the caller's.
CREATE ROLE hybrid_reader;
GRANT SELECT (id, embedding) ON photos TO hybrid_reader;
CREATE VIEW readable AS SELECT id, embedding, colour FROM photos;
GRANT SELECT ON readable TO hybrid_reader;
SET ROLE hybrid_reader;
SELECT (hit).id FROM text_search(NULL::readable, 'a red car', 2, attributes => 'hard');
SELECT * FROM text_search(NULL::photos, 'a red car', attributes => 'hard');
RESET ROLE;
DROP OWNED BY hybrid_reader;
DROP ROLE hybrid_reader;

-- Measured: with and without.
CREATE TABLE queries AS SELECT 1 AS id, 'a red sedan' AS sentence;
CREATE TABLE relevance AS SELECT 1 AS query, id FROM photos WHERE colour = 'red' AND kind = 'Sedan';
SELECT a AS attributes, round(map::numeric, 3) AS map, recall FROM unnest('{off,soft,hard}'::text[]) AS a, clip_evaluate('queries', 'relevance', 'photos', '{3}', options => jsonb_build_object('attributes', a));

-- A restriction is checked inside the graph of an index that has the columns as filter columns.
CREATE TABLE many (id int PRIMARY KEY, colour text, kind text, embedding embedding(128));
INSERT INTO many SELECT i, (ARRAY['red', 'blue', 'white', 'grey'])[i % 4 + 1], (ARRAY['Sedan', 'Bus', 'SUV'])[i % 3 + 1], (SELECT array_agg(cos(i * j)) FROM generate_series(1, 128) AS j)::real[] FROM generate_series(1, 2000) AS i;
CREATE INDEX graph ON many USING clip_hnsw (embedding, colour, kind);
ANALYZE many;
CREATE FUNCTION scans(query text, attributes text, OUT used boolean, OUT rows bigint, OUT fit boolean) LANGUAGE plpgsql AS $$
DECLARE before bigint := pg_stat_get_xact_numscans('graph'::regclass);
BEGIN
    SELECT count(*), bool_and((hit).colour = 'red' AND (hit).kind = 'Bus') INTO rows, fit FROM text_search(NULL::many, query, 20, attributes => scans.attributes);
    used := pg_stat_get_xact_numscans('graph'::regclass) > before;
END $$;
SET enable_seqscan = off;
SET enable_sort = off;
SELECT * FROM scans('a red bus', 'hard:colour,type=kind');
SELECT used, rows FROM scans('a red bus', 'soft:colour,type=kind');
