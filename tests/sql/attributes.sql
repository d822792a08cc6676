-- clip_attach(…, attributes => 'vehicle:colour,type=kind'): columns that say what images show, filled with the embedding.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
\set two `base64 -w0 "$ROOT/crates/clip/tests/golden/images/grey.gif"`
SET client_min_messages = warning;
CREATE TABLE samples (name text PRIMARY KEY, image bytea);
INSERT INTO samples VALUES ('one', decode(:'one', 'base64')), ('two', decode(:'two', 'base64'));
CREATE FUNCTION sample(text) RETURNS bytea LANGUAGE sql STABLE AS 'SELECT image FROM samples WHERE name = $1';
CREATE FUNCTION best(embedding, text) RETURNS text LANGUAGE sql STABLE AS 'SELECT value FROM clip_fill_attributes($1) WHERE attribute = $2';
CREATE TABLE photos (id int PRIMARY KEY, colour text, image bytea, embedding embedding, kind varchar(30), make text);
-- Is each value the likeliest of the embedding?
CREATE VIEW checked AS
    SELECT id, embedding IS NOT NULL AS embedded,
           CASE WHEN colour IS NULL THEN 'none' WHEN colour = best(embedding, 'colour') THEN 'likeliest' ELSE colour END AS colour,
           CASE WHEN kind IS NULL THEN 'none' WHEN kind = best(embedding, 'type') THEN 'likeliest' ELSE kind END AS kind, make
    FROM photos;
SELECT clip_attach('photos', attributes => 'vehicle:colour,type=kind');
SELECT relation, embedding, attributes FROM clip_columns;
SELECT regexp_replace(pg_get_triggerdef(oid), '[0-9a-f]{64}', 'digest') FROM pg_trigger WHERE tgrelid = 'photos'::regclass AND tgname = 'pgclip_embedding';

-- The two images differ in what they seem to show, or nothing below would be tested.
SELECT best(encode_image(sample('one')), 'colour') <> best(encode_image(sample('two')), 'colour') AS colour, best(encode_image(sample('one')), 'type') <> best(encode_image(sample('two')), 'type') AS type;
-- A value that a row brings stays.
INSERT INTO photos (id, image, colour) VALUES (1, sample('one'), NULL), (2, sample('two'), 'by hand'), (3, NULL, NULL), (4, NULL, 'by hand');
SELECT * FROM checked ORDER BY id;
-- A row that brings its embedding is left alone, values and all, as in a restore.
INSERT INTO photos (id, image, embedding) SELECT 5, sample('two'), embedding FROM photos WHERE id = 1;
SELECT * FROM checked WHERE id = 5;
-- Another image: what the statement does not change is determined anew.
UPDATE photos SET image = sample('two') WHERE id = 1 RETURNING embedding, colour, kind;
UPDATE photos SET image = sample('one') WHERE id = 2;
UPDATE photos SET image = sample('one'), colour = 'by hand' WHERE id = 5;
UPDATE photos SET image = sample('one') WHERE id IN (3, 4);
SELECT * FROM checked ORDER BY id;
-- An image that goes takes them along; an embedding that is made again keeps them; values change like any other.
UPDATE photos SET image = NULL WHERE id = 1;
UPDATE photos SET embedding = NULL, kind = NULL WHERE id = 4;
UPDATE photos SET colour = NULL WHERE id = 3;
UPDATE photos SET image = image, colour = 'kept' WHERE id = 2;
SELECT * FROM checked ORDER BY id;
INSERT INTO photos (id, image, colour) VALUES (2, sample('two'), NULL), (6, sample('one'), 'new') ON CONFLICT (id) DO UPDATE SET image = excluded.image;
SELECT * FROM checked WHERE id IN (2, 6) ORDER BY id;
-- More rows than a batch holds.
INSERT INTO photos (id, image, kind) SELECT i, sample(CASE i % 2 WHEN 0 THEN 'one' ELSE 'two' END), CASE WHEN i % 3 = 0 THEN 'by hand' END FROM generate_series(100, 199) AS i;
SELECT embedded, colour, kind, count(*) FROM checked WHERE id >= 100 GROUP BY 1, 2, 3 ORDER BY 3;
-- They are columns for a search to restrict by.
SELECT count(*), bool_and((hit).colour = 'white') AS fit FROM text_search(NULL::photos, 'a white truck', k => 20, attributes => 'hard');

-- A change of the lexicon counts from the next statement on; an attribute without values is NULL.
UPDATE clip_attributes SET enabled = false WHERE attribute = 'colour' AND value <> 'pink';
UPDATE clip_attributes SET enabled = false WHERE attribute = 'type';
INSERT INTO photos (id, image) VALUES (7, sample('one'));
SELECT colour, kind FROM photos WHERE id = 7;
DELETE FROM clip_attributes WHERE NOT builtin;
INSERT INTO photos (id, image) VALUES (8, sample('one'));
SELECT * FROM checked WHERE id = 8;

-- Columns follow renames, and drop with the trigger alone.
ALTER TABLE photos RENAME COLUMN kind TO "Kind, of it";
SELECT attributes FROM clip_columns;
INSERT INTO photos (id, image) VALUES (9, sample('two'));
SELECT "Kind, of it" = best(embedding, 'type') AS kind FROM photos WHERE id = 9;
\set VERBOSITY terse
ALTER TABLE photos DROP COLUMN colour;
\set VERBOSITY verbose
ALTER TABLE photos RENAME COLUMN "Kind, of it" TO kind;
SELECT clip_detach('photos');
INSERT INTO photos (id, image) VALUES (10, sample('one'));
SELECT * FROM checked WHERE id = 10;
-- What was there before: the backfill fills both.
SELECT clip_attach('photos', attributes => 'vehicle:colour,type=kind', mode => 'async');
SELECT mode, on_error, attributes FROM clip_columns;
CALL clip_backfill('photos');
SELECT * FROM checked WHERE id = 10;
SELECT clip_detach('photos');

-- Partitions with columns in another order, and rows that move between them with another image.
CREATE TABLE parted (id int, image bytea, embedding embedding, colour text) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 (colour text, gone int, embedding embedding, image bytea, id int);
ALTER TABLE parted_2 DROP COLUMN gone;
SELECT clip_attach('parted', attributes => 'vehicle:colour');
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
INSERT INTO parted (id, image) VALUES (1, sample('one')), (2, sample('one'));
SELECT tableoid::regclass, colour = best(embedding, 'colour') AS likeliest FROM parted ORDER BY 1;
UPDATE parted SET id = 2, image = sample('two') WHERE id = 1;
SELECT tableoid::regclass, embedding <=> encode_image(image) < 1e-3 AS fits, colour = best(embedding, 'colour') AS likeliest FROM parted ORDER BY 1, best(embedding, 'colour');
SELECT count(*) FROM text_search(NULL::parted, 'a car', attributes => 'hard');
SELECT clip_detach('parted');
-- A table with a check: what does not fit it fails the statement.
CREATE DOMAIN paint AS text CHECK (value = 'by hand');
CREATE TABLE strict (id int PRIMARY KEY, image bytea, embedding embedding, colour paint);
SELECT clip_attach('strict', attributes => 'vehicle:colour');
INSERT INTO strict (id, image, colour) VALUES (1, sample('one'), 'by hand');
INSERT INTO strict (id, image) VALUES (2, sample('one'));
SELECT count(*) FROM strict;
CREATE TABLE short (image bytea, embedding embedding, colour varchar(1));
SELECT clip_attach('short', attributes => 'vehicle:colour');
INSERT INTO short (image) VALUES (sample('one'));

-- Rows are written as the table's owner, whoever inserts them; the backfill wants the rights.
CREATE ROLE attributes_owner;
CREATE ROLE attributes_loader;
CREATE TABLE owned (id int PRIMARY KEY, image bytea, embedding embedding, colour text);
ALTER TABLE owned OWNER TO attributes_owner;
SELECT clip_attach('owned', attributes => 'vehicle:colour');
GRANT INSERT (id, image), UPDATE (embedding) ON owned TO attributes_loader;
GRANT SELECT ON owned TO attributes_loader;
SET ROLE attributes_loader;
CREATE TEMP TABLE own_sample (image bytea);
RESET ROLE;
INSERT INTO own_sample SELECT image FROM samples WHERE name = 'one';
SET ROLE attributes_loader;
INSERT INTO owned (id, image) SELECT 1, image FROM own_sample;
UPDATE owned SET colour = 'x';
CALL clip_backfill('owned');
RESET ROLE;
GRANT UPDATE (colour) ON owned TO attributes_loader;
SET ROLE attributes_loader;
CALL clip_backfill('owned');
RESET ROLE;
SELECT colour = best(embedding, 'colour') AS likeliest FROM owned;
DROP TABLE own_sample, owned;
DROP ROLE attributes_owner, attributes_loader;

-- What is wrong.
CREATE TABLE wrong (id int PRIMARY KEY, number int, fixed char(10), list text[], path text, always text GENERATED ALWAYS AS ('x') STORED, needed text NOT NULL, image bytea, embedding embedding, colour text);
SELECT clip_attach('wrong', attributes => '');
SELECT clip_attach('wrong', attributes => 'vehicle');
SELECT clip_attach('wrong', attributes => 'vehicle:');
SELECT clip_attach('wrong', attributes => 'colour,type');
SELECT clip_attach('wrong', attributes => 'ship:colour');
SELECT clip_attach('wrong', attributes => 'vehicle:weight=colour');
SELECT clip_attach('wrong', attributes => 'vehicle:colour,,type');
SELECT clip_attach('wrong', attributes => 'vehicle:Colour');
SELECT clip_attach('wrong', attributes => 'vehicle:colour,colour=path');
SELECT clip_attach('wrong', attributes => 'vehicle:colour,type=colour');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=paint');
SELECT clip_attach('wrong', attributes => 'vehicle:colour="Colour"');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=number');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=fixed');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=list');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=always');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=needed');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=image');
SELECT clip_attach('wrong', attributes => 'vehicle:colour=ctid');
SELECT count(*) FROM clip_columns WHERE relation = 'wrong'::regclass;
-- Triggers made by hand. What a trigger refuses is not listed as attached either: the view once read
-- arguments by expressions of its own, which took these for bindings.
CREATE TRIGGER wrong AFTER INSERT OR UPDATE OF image, embedding ON wrong FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', 'b', 'attributes=vehicle:colour');
SELECT count(*) FROM clip_columns WHERE relation = 'wrong'::regclass;
INSERT INTO wrong (id, needed, image) VALUES (1, '', sample('one'));
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT OR UPDATE OF image, embedding, colour ON wrong FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', 'b', 'attributes=colour');
SELECT count(*) FROM clip_columns WHERE relation = 'wrong'::regclass;
INSERT INTO wrong (id, needed, image) VALUES (1, '', sample('one'));
