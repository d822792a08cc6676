-- text_search, image_search and zero_shot.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
\set two `base64 -w0 "$ROOT/crates/clip/tests/golden/images/s2_200x100.png"`
SELECT setting || '/pgclip/models/pgclip-traffic-tiny' AS directory FROM pg_config() WHERE name = 'SHAREDIR' \gset
SELECT clip_register_model('second', :'directory');
CREATE TABLE photos (gone int, id int PRIMARY KEY, "Camera" text, image bytea, embedding embedding);
ALTER TABLE photos DROP COLUMN gone;
SELECT clip_attach('photos');
INSERT INTO photos (id, "Camera", image) VALUES (1, 'north', decode(:'one', 'base64')), (2, 'south', decode(:'two', 'base64'));
INSERT INTO photos (id, "Camera") VALUES (3, 'no image');

-- Rows without an embedding are left out; images are left out of rows.
SELECT count(*), bool_and((hit).image IS NULL) AS without, bool_and((hit).embedding IS NOT NULL) AS embedding,
       bool_and((hit)."Camera" IS NOT NULL) AS camera FROM text_search(NULL::photos, 'a red car');
SELECT bool_and((hit).image IS NOT NULL) AS with FROM text_search(NULL::photos, 'a red car', with_image => true);
-- The score is the cosine similarity with the enhanced prompt, in descending order.
SELECT bool_and(abs(score - (1 - ((hit).embedding <=> clip_query('a red car.')))) < 1e-3) AS enhanced
FROM text_search(NULL::photos, 'a red car.');
SELECT bool_and(abs(score - (1 - ((hit).embedding <=> encode_text('a red car.')))) < 1e-3) AS plain
FROM text_search(NULL::photos, 'a red car.', enhance => false);
SELECT bool_and(abs(score - (1 - ((hit).embedding <=> encode_text('a barn image taken by traffic surveillance cameras')))) < 1e-3) AS given
FROM text_search(NULL::photos, 'a barn.', domain => 'vehicle');
SELECT score >= lead(score) OVER () IS NOT FALSE AS ordered, pg_typeof(score), pg_typeof(hit) FROM text_search(NULL::photos, 'a red car');
SELECT (hit).id, round(score::numeric, 2) AS score FROM image_search(NULL::photos, decode(:'one', 'base64'), k => 1);
SELECT (hit).id FROM image_search(NULL::photos, decode(:'two', 'base64'), min_score => 0.99);
SELECT (hit).id, (hit).image IS NOT NULL AS image FROM image_search(NULL::photos, decode(:'two', 'base64'), 1, with_image => true);
SELECT count(*) FROM text_search(NULL::photos, 'x', min_score => 2);
-- An existing row says which table as well as NULL does.
SELECT count(*) FROM photos AS p, text_search(p, 'x', k => 1) WHERE p.id = 1;
SELECT p.id, (s.hit).id FROM photos AS p, image_search(NULL::photos, p.image, 1) AS s ORDER BY 1;

-- NULLs and bounds.
SELECT count(*) FROM text_search(NULL::photos, NULL);
SELECT count(*) FROM image_search(NULL::photos, NULL);
SELECT * FROM text_search(NULL::photos, 'x', k => 0);
SELECT * FROM text_search(NULL::photos, 'x', k => -1);
SELECT * FROM text_search(NULL::photos, 'x', k => 100001);
SELECT * FROM text_search(NULL::photos, 'x', k => NULL);
SELECT * FROM text_search(NULL::photos, 'x', min_score => 'NaN');
-- A vector of zeros has no score, so none that is high enough.
CREATE TABLE zeros (id int, embedding embedding(128));
INSERT INTO zeros SELECT 1, array_fill(0::real, '{128}')::embedding;
SELECT * FROM text_search(NULL::zeros, 'x', min_score => -1);
SELECT (hit).id, score FROM text_search(NULL::zeros, 'x');
DROP TABLE zeros;
SELECT * FROM text_search(NULL::photos, 'x', domain => 'none');
SELECT * FROM text_search(NULL::photos, repeat('x', 100000));
SELECT * FROM image_search(NULL::photos, 'no image');

-- Models: a column has one.
SELECT * FROM text_search(NULL::photos, 'x', model => 'second');
SELECT * FROM text_search(NULL::photos, 'x', model => 'none');
SELECT count(*) FROM text_search(NULL::photos, 'x', model => 'pgclip-traffic-tiny');
SET pgclip.model = 'none';
SELECT count(*) FROM text_search(NULL::photos, 'x');
RESET pgclip.model;

-- What cannot be searched.
SELECT * FROM text_search(NULL::int, 'x');
SELECT * FROM text_search(NULL::pg_class, 'x');
CREATE TYPE pair AS (id int, embedding embedding);
SELECT * FROM text_search(NULL::pair, 'x');
SELECT * FROM text_search(NULL, 'x');
SELECT * FROM text_search(NULL::photos, 'x', embedding_column => 'Camera');
SELECT * FROM text_search(NULL::photos, 'x', embedding_column => 'nothing');

-- Several embedding columns; columns of no model; other dimensions.
CREATE TABLE several (id int, a embedding, b embedding, c embedding(7));
INSERT INTO several SELECT id, embedding, embedding, NULL FROM photos;
SELECT * FROM text_search(NULL::several, 'x');
SELECT count(*) FROM text_search(NULL::several, 'x', embedding_column => 'b');
SELECT count(*) FROM text_search(NULL::several, 'x', embedding_column => 'b', model => 'second');
\set VERBOSITY sqlstate
SELECT * FROM text_search(NULL::several, 'x', embedding_column => 'c');
\set VERBOSITY verbose
INSERT INTO several (id, b) VALUES (9, '[1,2]');
\set VERBOSITY sqlstate
SELECT * FROM text_search(NULL::several, 'x', embedding_column => 'b');
\set VERBOSITY verbose

-- Views: any filter, the model of the column they show, views on views.
CREATE VIEW north AS SELECT id AS number, embedding AS feature, image FROM photos WHERE "Camera" = 'north';
CREATE VIEW above AS SELECT * FROM north;
SELECT (hit).number, (hit).image IS NULL AS without FROM text_search(NULL::north, 'x');
SELECT (hit).number, (hit).image IS NULL AS without FROM text_search(NULL::above, 'x');
SELECT * FROM text_search(NULL::above, 'x', model => 'second');
CREATE TABLE others (id int, image bytea, embedding embedding);
SELECT clip_attach('others', model => 'second');
INSERT INTO others VALUES (4, decode(:'one', 'base64'));
CREATE VIEW united AS SELECT id, embedding FROM photos UNION ALL SELECT id, embedding FROM others;
SELECT * FROM text_search(NULL::united, 'x');
SELECT count(*) FROM text_search(NULL::united, 'x', model => 'second');
CREATE MATERIALIZED VIEW kept AS SELECT id, embedding FROM photos;
SELECT count(*) FROM text_search(NULL::kept, 'x');

-- Partitioned tables and names that need quotes.
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."Odd ""Table" ("Odd Id" int, "select" embedding, t int, s int) PARTITION BY LIST ("Odd Id");
CREATE TABLE odd_1 PARTITION OF "Odd Schema"."Odd ""Table" DEFAULT;
INSERT INTO "Odd Schema"."Odd ""Table" SELECT id, embedding, id, id FROM photos;
SELECT count(*), count(DISTINCT (hit)."Odd Id") FROM text_search(NULL::"Odd Schema"."Odd ""Table", 'x');
SELECT count(*) FROM text_search(NULL::odd_1, 'x');

-- It sees what the statement sees, and the caller's own changes.
BEGIN;
DELETE FROM photos WHERE id = 2;
SELECT (hit).id FROM text_search(NULL::photos, 'x');
ROLLBACK;

-- Partitions that are attached by themselves: a search of all has their model, or is refused.
CREATE TABLE days (id int, image bytea, embedding embedding) PARTITION BY LIST (id);
CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1);
CREATE TABLE days_2 (embedding embedding, id int, image bytea);
ALTER TABLE days ATTACH PARTITION days_2 FOR VALUES IN (2);
SELECT clip_attach('days_2', model => 'second');
INSERT INTO days VALUES (2, decode(:'two', 'base64'));
SELECT (hit).id, (hit).image FROM text_search(NULL::days, 'x');
SELECT * FROM text_search(NULL::days, 'x', model => 'pgclip-traffic-tiny');
SELECT clip_attach('days_1');
SELECT * FROM text_search(NULL::days, 'x');
CREATE VIEW all_days AS SELECT * FROM days;
SELECT * FROM text_search(NULL::all_days, 'x');
DROP TABLE days CASCADE;

-- Zero-shot classification.
SELECT count(*), sum(probability)::numeric(6, 4) AS sum, bool_and(probability > 0) AS positive
FROM zero_shot((SELECT embedding FROM photos WHERE id = 1), ARRAY['red', 'blue', 'white'], 'a {} car');
SELECT label FROM zero_shot(encode_text('a photo of a bus'), ARRAY['sedan', 'bus', 'person'], 'a photo of a {}') LIMIT 1;
SELECT * FROM zero_shot(encode_text('x'), ARRAY['only']);
SELECT count(*) FROM zero_shot(encode_text('x'), '{}');
SELECT count(*) FROM zero_shot(NULL, ARRAY['x']);
SELECT count(*) FROM zero_shot(encode_text('x'), NULL);
SELECT * FROM zero_shot(encode_text('x'), ARRAY['a', NULL]);
SELECT * FROM zero_shot(encode_text('x'), ARRAY['a'], 'car');
-- Several templates: a label is the mean of its prompts.
SELECT label, abs(probability - of_mean) < 1e-3 AS fits FROM zero_shot(encode_text('a red car'), ARRAY['red', 'blue'], ARRAY['a {} car', 'a {} bus']) AS z,
    LATERAL (SELECT 1 / (1 + exp(logit_scale * (other - own))) AS of_mean FROM
        (SELECT 1 - (encode_text('a red car') <=> l2_normalize(encode_text(format('a %s car', label)) + encode_text(format('a %s bus', label)))) AS own,
                1 - (encode_text('a red car') <=> l2_normalize(encode_text(format('a %s car', o)) + encode_text(format('a %s bus', o)))) AS other,
                (pg_read_file(:'directory' || '/clip.json')::jsonb ->> 'logit_scale')::float8 AS logit_scale
         FROM (SELECT CASE label WHEN 'red' THEN 'blue' ELSE 'red' END) AS b (o)) AS c) AS m;
SELECT * FROM zero_shot(encode_text('x'), ARRAY['a'], ARRAY['{}', 'car']);
SELECT * FROM zero_shot(encode_text('x'), ARRAY['a'], ARRAY['{}', NULL]);
SELECT * FROM zero_shot(encode_text('x'), ARRAY['a'], '{}'::text[]);
-- The values of attributes that fit best.
SELECT attribute, value, probability > 0.4 AS likely FROM clip_fill_attributes(encode_text('a photo of a red sedan')) WHERE attribute <> 'make' ORDER BY 1;
SELECT f.probability = z.probability AS same FROM clip_fill_attributes(encode_text('a white bus')) AS f,
    LATERAL (SELECT * FROM zero_shot(encode_text('a white bus'), ARRAY(SELECT value FROM clip_attributes WHERE attribute = 'type' ORDER BY value COLLATE "C"),
        (SELECT templates FROM clip_attributes WHERE attribute = 'type' LIMIT 1)) LIMIT 1) AS z WHERE attribute = 'type';
-- A column is filled from the embeddings that are there.
CREATE TABLE seen AS SELECT id, NULL::text AS colour, embedding FROM photos WHERE embedding IS NOT NULL;
UPDATE seen SET colour = (SELECT value FROM clip_fill_attributes(embedding) WHERE attribute = 'colour') WHERE colour IS NULL;
SELECT count(*) > 0 AS some, bool_and(EXISTS (SELECT FROM clip_attributes AS a WHERE a.attribute = 'colour' AND a.value = seen.colour)) AS known FROM seen;
DROP TABLE seen;
INSERT INTO clip_attributes (domain, attribute, value) VALUES ('scene', 'weather', 'rain'), ('scene', 'weather', 'snow');
UPDATE clip_attributes SET enabled = false WHERE attribute = 'make';
SELECT attribute, value IN ('rain', 'snow') AS known FROM clip_fill_attributes(encode_text('snow'), 'scene');
SELECT attribute FROM clip_fill_attributes(encode_text('a car')) ORDER BY 1;
SELECT count(*) FROM clip_fill_attributes(NULL);
SELECT * FROM clip_fill_attributes(encode_text('x'), 'ships');
SELECT * FROM clip_fill_attributes(encode_text('x'), model => 'none');
DELETE FROM clip_attributes WHERE NOT builtin;
\set VERBOSITY sqlstate
SELECT * FROM zero_shot('[1,2]', ARRAY['a']);
SELECT * FROM clip_fill_attributes('[1,2]');
