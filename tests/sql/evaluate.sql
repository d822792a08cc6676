-- clip_evaluate: measures by hand, tables of any shape, what is wrong with them.
CREATE TABLE photos (id bigint PRIMARY KEY, camera text, embedding embedding(128));
-- Photo i is the i-th nearest to the query "a", and the (11 - i)-th nearest to "b".
INSERT INTO photos
SELECT i, CASE WHEN i < 6 THEN 'north' ELSE 'south' END,
       (SELECT array_agg((10 - i) * u.a + (i - 1) * u.b ORDER BY n)
        FROM ROWS FROM (unnest(t.a::real[]), unnest(t.b::real[])) WITH ORDINALITY AS u(a, b, n))::embedding
FROM generate_series(1, 10) AS i, (SELECT encode_text('a red car') AS a, encode_text('a man with a bag') AS b) AS t;
SELECT array_agg((hit).id) FROM text_search(NULL::photos, 'a red car', enhance => false);
SELECT array_agg((hit).id) FROM text_search(NULL::photos, 'a man with a bag', enhance => false);

CREATE TABLE queries (number int, sentence text, note text);
INSERT INTO queries VALUES (1, 'a red car'), (2, 'a man with a bag'), (3, 'nothing fits this'), (4, NULL);
CREATE TABLE relevance (query text, photo int);
-- Query 1 finds its rows at places 1, 3 and never; query 2 at places 2 and 4; 3 has none.
INSERT INTO relevance VALUES ('1', 1), ('1', 3), ('1', 99), ('1', 3), ('2', 9), ('2', 7), ('9', 1), ('2', NULL), (NULL, 2);
SELECT k, round(map::numeric, 6) AS map, recall, mrr, asked
FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"enhance": false}');
SELECT (1.0 / 3 * (1 + 2.0 / 3) + 1.0 / 2 * (1.0 / 2 + 2.0 / 4))::numeric(9, 6) / 2 AS map_by_hand;
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', '{2,1,2}', options => '{"enhance": false}');
SELECT k, recall, asked FROM clip_evaluate('queries', 'relevance', 'photos', '{100}', 'id', '{"enhance": false, "filter": {"camera": "south"}, "min_score": -1, "domain": null, "model": null}');
-- A query of NULL finds nothing, and counts when something is relevant to it.
INSERT INTO relevance VALUES ('4', 1);
SELECT recall, asked FROM clip_evaluate('queries', 'relevance', 'photos', '{10}', options => '{"enhance": false}');
-- Options reach the search.
SELECT a.map IS DISTINCT FROM b.map AS differ
FROM clip_evaluate('queries', 'relevance', 'photos', '{10}') AS a, clip_evaluate('queries', 'relevance', 'photos', '{10}', options => '{"filter": {"camera": "north"}}') AS b;
SELECT count(*) FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"rerank": "adaption", "candidates": "7"}');
-- Another key, which need not be unique: it counts once.
CREATE VIEW cameras AS SELECT * FROM (VALUES (1, 'north')) AS v (query, camera);
SELECT k, map, asked FROM clip_evaluate('queries', 'cameras', 'photos', '{1,10}', 'camera', '{"enhance": false}');
-- Queries by image.
\set picture `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
CREATE VIEW examples AS SELECT 1 AS key, decode(:'picture', 'base64') AS image;
SELECT recall, asked FROM clip_evaluate('examples', 'relevance', 'photos', '{10}');
SELECT recall, asked FROM clip_evaluate('examples', 'relevance', 'photos', '{10}', options => '{"rerank": "adaption_mean"}');
-- No queries.
CREATE TABLE none (a int, b int);
SELECT * FROM clip_evaluate('queries', 'none', 'photos');
-- Names that need quotes.
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."Odd ""Queries" ("The Key" int, "select" varchar);
INSERT INTO "Odd Schema"."Odd ""Queries" VALUES (1, 'a red car');
CREATE VIEW "Odd Schema"."Photos" AS SELECT id AS "Odd Id", embedding FROM photos;
SELECT recall FROM clip_evaluate('"Odd Schema"."Odd ""Queries"', 'relevance', '"Odd Schema"."Photos"', '{1}', 'Odd Id', '{"enhance": false}');

-- What is wrong.
SELECT * FROM clip_evaluate(NULL, 'relevance', 'photos');
SELECT * FROM clip_evaluate('queries', NULL, 'photos');
SELECT * FROM clip_evaluate('queries', 'relevance', NULL);
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', '{}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', NULL);
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', '{0}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', '{1,NULL}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', '{1001}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', key => 'nothing');
SELECT * FROM clip_evaluate('queries', 'relevance', '"Odd Schema"."Photos"');
SELECT * FROM clip_evaluate('queries', 'relevance', 'relevance', key => 'photo');
SELECT * FROM clip_evaluate('relevance', 'relevance', 'photos');
CREATE TABLE narrow (a int);
SELECT * FROM clip_evaluate('narrow', 'relevance', 'photos');
SELECT * FROM clip_evaluate('queries', 'narrow', 'photos');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', options => '[]');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"enhanced": true}');
SELECT * FROM clip_evaluate('examples', 'relevance', 'photos', options => '{"enhance": true}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"enhance": "perhaps"}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"rerank": "perhaps"}');
SELECT * FROM clip_evaluate('queries', 'relevance', 'photos', options => '{"filter": {"lane": 1}}');
SELECT * FROM clip_evaluate(999999::regclass, 'relevance', 'photos');
