-- Re-ranking and relevance feedback. Embeddings are written by hand, and orders are compared where
-- they do not hang on the last bits, in which machines differ.
CREATE TABLE photos (id int PRIMARY KEY, camera text, image bytea, embedding embedding(128));
SELECT clip_attach('photos');
-- Rows 1 to 60 fit less and less. Beside what they share with the query they have one of two looks;
-- ten rows, most of the best among them, have the first.
CREATE FUNCTION seen(query embedding, share float8, look int) RETURNS embedding LANGUAGE sql IMMUTABLE AS $$
    SELECT l2_normalize((SELECT array_agg(share * q + CASE WHEN i = look THEN 1 ELSE 0 END ORDER BY i)
        FROM unnest(query::real[]) WITH ORDINALITY AS u(q, i))::embedding)
$$;
SELECT clip_query('a red car') AS query \gset
INSERT INTO photos (id, camera, embedding)
SELECT i, CASE WHEN i % 3 = 0 THEN 'north' ELSE 'south' END,
       seen(:'query', 0.8 - i / 100.0, CASE WHEN i IN (1, 2, 3, 5, 6, 8, 9, 12, 15, 20) THEN 7 ELSE 8 END)
FROM generate_series(1, 60) AS i;
INSERT INTO photos (id, camera) VALUES (61, 'no embedding');

-- Without re-ranking rows come by score; with it those of the first look do.
SELECT array_agg((hit).id) AS plain FROM text_search(NULL::photos, 'a red car', k => 12);
SELECT array_agg((hit).id) AS off FROM text_search(NULL::photos, 'a red car', k => 12, rerank => 'off');
SELECT array_agg((hit).id ORDER BY (hit).id) AS adaption FROM text_search(NULL::photos, 'a red car', rerank => 'adaption');
SELECT array_agg((hit).id ORDER BY (hit).id) AS mean FROM text_search(NULL::photos, 'a red car', rerank => 'adaption_mean');
SELECT array_agg((hit).id ORDER BY (hit).id) AS weighted FROM text_search(NULL::photos, 'a red car', rerank => 'adaption_weighted_mean');
-- Scores are cosine similarities as ever.
SELECT bool_and(abs(score - (1 - ((hit).embedding <=> clip_query('a red car')))) < 1e-6) AS cosine, count(*)
FROM text_search(NULL::photos, 'a red car', k => 12, rerank => 'adaption');
-- The rows of a search are those without re-ranking where k is no less than the candidates: the
-- first candidates in another order, the others as they were.
SELECT array_agg((hit).id ORDER BY (hit).id) = (SELECT array_agg((hit).id ORDER BY (hit).id) FROM text_search(NULL::photos, 'a red car', k => 40)) AS same
FROM text_search(NULL::photos, 'a red car', k => 40, rerank => 'adaption', candidates => 20);
SELECT array_agg(id) AS rest FROM (
    SELECT (hit).id FROM text_search(NULL::photos, 'a red car', k => 26, rerank => 'adaption', candidates => 20)
    OFFSET 20) AS s;
-- All rows and fewer than there are candidates.
SELECT count(*), count(DISTINCT (hit).id) FROM text_search(NULL::photos, 'a red car', k => 1000, rerank => 'adaption', candidates => 500);
SELECT (hit).id FROM text_search(NULL::photos, 'a red car', k => 1, rerank => 'adaption', candidates => 1);
-- With filters, a bound, images, a view.
SELECT array_agg((hit).id ORDER BY (hit).id) AS north, bool_and((hit).camera = 'north') FROM text_search(NULL::photos, 'a red car', rerank => 'adaption', filter => '{"camera": "north"}');
SELECT count(*), bool_and(score >= 0.5) AS passing FROM text_search(NULL::photos, 'a red car', k => 60, rerank => 'adaption', min_score => 0.5);
SELECT count(*) FROM text_search(NULL::photos, 'a red car', rerank => 'adaption', min_score => 2);
CREATE VIEW "South" AS SELECT id AS "Number", embedding AS s FROM photos WHERE camera = 'south';
SELECT array_agg((hit)."Number" ORDER BY (hit)."Number") AS south FROM text_search(NULL::"South", 'a red car', 5, rerank => 'adaption');
-- Identical rows, rows of zeros, one row, none.
CREATE TABLE same (id int, embedding embedding(128));
SELECT count(*) FROM text_search(NULL::same, 'a red car', rerank => 'adaption');
INSERT INTO same SELECT i, array_fill(0::real, '{128}')::embedding FROM generate_series(1, 3) AS i;
SELECT count(DISTINCT (hit).id), bool_and(score = 'NaN') AS no_score FROM text_search(NULL::same, 'a red car', rerank => 'adaption');
INSERT INTO same SELECT 10 + i, :'query'::embedding FROM generate_series(1, 60) AS i;
SELECT count(DISTINCT (hit).id), min((hit).id) > 10 AS alike FROM text_search(NULL::same, 'a red car', k => 60, rerank => 'adaption');
SELECT count(DISTINCT (hit).id) FROM text_search(NULL::same, 'a red car', k => 100, rerank => 'adaption', candidates => 100);
DROP TABLE same;
-- By example.
\set picture `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
SELECT count(DISTINCT (hit).id) FROM image_search(NULL::photos, decode(:'picture', 'base64'), rerank => 'adaption');
-- With an index.
CREATE INDEX ON photos USING clip_hnsw (embedding embedding_cosine_ops);
SET enable_seqscan = off;
SELECT array_agg((hit).id ORDER BY (hit).id) AS adaption FROM text_search(NULL::photos, 'a red car', rerank => 'adaption');
RESET enable_seqscan;
-- What is wrong is told before anything is searched.
SELECT * FROM text_search(NULL::photos, 'x', rerank => 'Adaption');
SELECT * FROM text_search(NULL::photos, 'x', rerank => '''; DROP TABLE photos');
SELECT * FROM text_search(NULL::photos, 'x', rerank => 'adaption', candidates => 0);
SELECT * FROM text_search(NULL::photos, 'x', rerank => 'adaption', candidates => 501);
SELECT * FROM text_search(NULL::photos, 'x', rerank => 'adaption', candidates => NULL);
SELECT * FROM image_search(NULL::photos, 'x', rerank => 'none');
SELECT count(*) FROM text_search(NULL::photos, 'x', rerank => NULL, candidates => NULL);
SELECT count(*) FROM text_search(NULL::photos, NULL, rerank => 'adaption');

-- The same for rows of one's own choosing.
SELECT ARRAY(SELECT unnest(r[:7]) ORDER BY 1) AS first, ARRAY(SELECT unnest(r[8:]) ORDER BY 1) AS others
FROM (SELECT clip_rerank(array_agg(embedding ORDER BY id), array_agg((60 - id)::real ORDER BY id)) AS r FROM photos WHERE id <= 12) AS s;
SELECT clip_rerank('{"[1,0]","[0,1]","[1,0.1]"}', '{0.3,0.2,0.1}', 'adaption_mean');
SELECT clip_rerank('{}', '{}'), clip_rerank(NULL, '{}') IS NULL AS strict;
SELECT clip_rerank('{"[1,0]"}', '{NaN}'), clip_rerank('{"[0,0]","[0,0]"}', '{-Infinity,NaN}');
SELECT clip_rerank('{"[1,0]"}', '{0.1,0.2}');
SELECT clip_rerank('{"[1,0]",NULL}', '{0.1,0.2}');
SELECT clip_rerank('{"[1,0]","[1,0,0]"}', '{0.1,0.2}');
SELECT clip_rerank('{"[1,0]"}', '{NULL}');
SELECT clip_rerank('{"[1,0]"}', '{1}', 'off');
SELECT clip_rerank(array_fill('[1]'::embedding, '{501}'), array_fill(1::real, '{501}'));

-- Feedback: more like these, less like those.
SELECT array_agg((hit).id) AS plain FROM text_search(NULL::photos, 'a red car', k => 6);
SELECT array_agg((hit).id) AS liked FROM text_search(NULL::photos, 'a red car', k => 6,
    liked => ARRAY(SELECT embedding FROM photos WHERE id = 4));
SELECT array_agg((hit).id) AS disliked FROM text_search(NULL::photos, 'a red car', k => 6,
    disliked => ARRAY(SELECT embedding FROM photos WHERE id IN (1, 2)));
-- The score is that of the moved query, by Rocchio's formula.
SELECT max(abs(score - (1 - ((hit).embedding <=> moved)))) < 1e-3 AS moved, count(*)
FROM text_search(NULL::photos, 'a red car', liked => ARRAY(SELECT embedding FROM photos WHERE id IN (4, 7) ORDER BY id),
                 disliked => ARRAY(SELECT embedding FROM photos WHERE id = 1)),
     (SELECT array_agg(q + 0.75 * (a + b) / 2 - 0.15 * c ORDER BY i)::embedding AS moved
      FROM ROWS FROM (unnest(:'query'::embedding::real[]), unnest((SELECT embedding FROM photos WHERE id = 4)::real[]),
                      unnest((SELECT embedding FROM photos WHERE id = 7)::real[]), unnest((SELECT embedding FROM photos WHERE id = 1)::real[]))
           WITH ORDINALITY AS u(q, a, b, c, i)) AS m;
-- It goes together with re-ranking, and with examples.
SELECT count(DISTINCT (hit).id) FROM text_search(NULL::photos, 'a red car', rerank => 'adaption',
    liked => ARRAY(SELECT embedding FROM photos WHERE id = 4));
SELECT count(*) FROM image_search(NULL::photos, decode(:'picture', 'base64'), liked => ARRAY(SELECT embedding FROM photos WHERE id = 4));
-- None, and none that has a direction, change nothing.
SELECT array_agg((hit).id) AS none FROM text_search(NULL::photos, 'a red car', k => 6, liked => NULL, disliked => '{}');
SELECT array_agg((hit).id) AS zeros FROM text_search(NULL::photos, 'a red car', k => 6,
    liked => ARRAY[array_fill(0::real, '{128}')::embedding], disliked => ARRAY[array_fill(0::real, '{128}')::embedding]);
SELECT * FROM text_search(NULL::photos, 'x', liked => ARRAY[(SELECT embedding FROM photos WHERE id = 1), NULL]);
SELECT * FROM text_search(NULL::photos, 'x', disliked => ARRAY['[1,2]'::embedding]);
SELECT * FROM image_search(NULL::photos, decode(:'picture', 'base64'), liked => ARRAY[l2_normalize('[1]'::embedding)]);
SELECT * FROM text_search(NULL::photos, 'x', disliked => array_fill('[1]'::embedding, '{1001}'));
