-- clip_attach and clip_detach: what they take and what they refuse.
CREATE TABLE photos (id int, image bytea, embedding embedding, text text, second embedding);
SELECT clip_attach('photos', image => 'nothing');
SELECT clip_attach('photos', embedding => 'nothing');
SELECT clip_attach('photos', image => 'text');
SELECT clip_attach('photos', embedding => 'text');
SELECT clip_attach('photos', model => 'none');
SELECT clip_attach('nothing');
SELECT clip_attach(NULL);
SELECT clip_attach(4294967295::oid::regclass);
SELECT clip_attach('photos', image => NULL);

-- Once per column; two columns may follow one image.
SELECT clip_attach('photos');
SELECT clip_attach('photos');
SELECT clip_attach('photos', embedding => 'second');
SELECT relation, image, embedding, model, mode, enabled FROM clip_columns ORDER BY embedding;
SELECT clip_detach('photos', 'second');
SELECT clip_detach('photos', 'second');
SELECT clip_detach('photos', 'nothing');

-- Dimensions must be the model's.
DO $$
BEGIN
    EXECUTE format('CREATE TABLE fits (image bytea, embedding embedding(%s))', (SELECT dimensions FROM clip_models WHERE is_default));
END $$;
SELECT clip_attach('fits');
CREATE TABLE fits_not (image bytea, embedding embedding(7));
\set VERBOSITY sqlstate
SELECT clip_attach('fits_not');
\set VERBOSITY verbose

-- Domains over the two types are as good as the types.
CREATE DOMAIN picture AS bytea CHECK (length(VALUE) < 10000000);
CREATE DOMAIN feature AS embedding;
CREATE TABLE domains (image picture, embedding feature);
SELECT clip_attach('domains');
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
INSERT INTO domains (image) VALUES (decode(:'one', 'base64'));
SELECT embedding <=> encode_image(image) < 1e-3 AS fits FROM domains;

-- Other kinds of relations.
CREATE VIEW view AS SELECT * FROM photos;
SELECT clip_attach('view');
CREATE TABLE generated (image bytea, embedding embedding GENERATED ALWAYS AS ('[1]'::embedding) STORED);
SELECT clip_attach('generated');
CREATE TABLE decoded (text text, image bytea GENERATED ALWAYS AS (decode(text, 'base64')) STORED, embedding embedding);
SELECT clip_attach('decoded');
CREATE TEMP TABLE temporary (image bytea, embedding embedding);
SELECT clip_attach('temporary');
INSERT INTO temporary (image) VALUES (decode(:'one', 'base64'));
SELECT embedding <=> encode_image(image) < 1e-3 AS fits FROM temporary;

-- Partitions follow their table, in both directions.
CREATE TABLE parted (id int, image bytea, embedding embedding) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
SELECT clip_attach('parted_1');
SELECT clip_attach('parted');
SELECT clip_detach('parted_1');
SELECT clip_attach('parted');
SELECT clip_attach('parted_1');
SELECT clip_detach('parted_1');
CREATE TABLE parted_2 (embedding embedding, dropped int, image bytea, id int);
ALTER TABLE parted_2 DROP COLUMN dropped;
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
INSERT INTO parted VALUES (1, decode(:'one', 'base64')), (2, decode(:'one', 'base64'));
INSERT INTO parted_2 (id, image) VALUES (2, decode(:'one', 'base64'));
UPDATE parted SET id = 2 WHERE id = 1;
-- An update that moves rows and changes their images.
\set two `base64 -w0 "$ROOT/crates/clip/tests/golden/images/s2_200x100.png"`
INSERT INTO parted VALUES (1, decode(:'one', 'base64'));
UPDATE parted SET id = 2, image = decode(:'two', 'base64') WHERE id = 1 RETURNING id, embedding;
SELECT tableoid::regclass, embedding <=> encode_image(image) < 1e-3 AS fits FROM parted;
SELECT relation FROM clip_columns ORDER BY 1;
SELECT clip_detach('parted');
SELECT clip_detach('parted_2');

-- The triggers' functions are for triggers that clip_attach makes.
SELECT clip_ingest();
CREATE TRIGGER wrong BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION clip_ingest();
INSERT INTO photos VALUES (1);
DROP TRIGGER wrong ON photos;
CREATE TRIGGER wrong BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION clip_outdate();
INSERT INTO photos VALUES (1);
DROP TRIGGER wrong ON photos;
CREATE TRIGGER wrong AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION clip_ingest('a', 'b');
INSERT INTO photos VALUES (1);
DROP TRIGGER wrong ON photos;
CREATE TRIGGER wrong AFTER INSERT OR UPDATE OF text, second ON photos FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', 'b');
INSERT INTO photos (text) VALUES ('x');
DROP TRIGGER wrong ON photos;
CREATE TABLE numbers (a int, b int);
CREATE TRIGGER wrong AFTER INSERT OR UPDATE OF a, b ON numbers FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', 'b');
INSERT INTO numbers VALUES (1, 1);
ALTER TABLE numbers DISABLE TRIGGER wrong;
INSERT INTO numbers VALUES (1, 1);
ALTER TABLE numbers ENABLE TRIGGER wrong;
UPDATE numbers SET a = 2;
DROP TRIGGER wrong ON numbers;
CREATE TRIGGER wrong BEFORE UPDATE OF a ON numbers FOR EACH ROW EXECUTE FUNCTION clip_outdate();
UPDATE numbers SET a = 2;
DROP TABLE numbers;

-- A binding holds its model's digest.
CREATE TRIGGER stale AFTER INSERT OR UPDATE OF image, second ON photos FOR EACH ROW EXECUTE FUNCTION clip_ingest('pgclip-traffic-tiny', '00');
\set VERBOSITY sqlstate
INSERT INTO photos (image) VALUES (decode(:'one', 'base64'));
SELECT * FROM text_search(NULL::photos, 'x', embedding_column => 'second');
