-- on_error => 'null': rows whose image cannot be encoded stay, without an embedding, and are noted.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
CREATE TABLE photos (id int, part text, note text, image bytea, embedding embedding, PRIMARY KEY (part, id));
SELECT clip_attach('photos', on_error => 'ignore');
SELECT clip_attach('photos', mode => 'later');
SELECT clip_attach('photos', mode => 'async', on_error => 'stop');
CREATE TABLE keyless (id int, image bytea, embedding embedding);
SELECT clip_attach('keyless', on_error => 'null');
SELECT clip_attach('photos', on_error => 'null');
SELECT mode, on_error FROM clip_columns;
CREATE VIEW failed AS
    SELECT relation, embedding, key, reason, sqlstate, model, failed_at > now() - interval '1 hour' AS recent
    FROM clip_errors ORDER BY key;

INSERT INTO photos (part, id, image)
SELECT 'a"''b', i, CASE i % 40 WHEN 7 THEN 'no image' ELSE decode(:'one', 'base64') END FROM generate_series(1, 100) AS i;
SELECT id, embedding IS NULL AS missing FROM photos WHERE embedding IS NULL OR NOT embedding <=> encode_image(image) < 1e-3 ORDER BY id;
SELECT * FROM failed;
-- Noted again with another reason, and cleared by a success.
UPDATE photos SET image = '' WHERE id = 7;
SELECT key, reason FROM failed;
UPDATE photos SET image = decode(:'one', 'base64') WHERE id IN (7, 47);
SELECT key FROM failed;
SELECT count(*) FROM photos WHERE embedding IS NULL;
-- A statement that is rolled back leaves nothing.
BEGIN;
INSERT INTO photos (part, id, image) VALUES ('c', 1, 'no image');
SELECT key FROM failed;
ROLLBACK;
SELECT key FROM failed;
-- A row that a trigger deletes, or gives another image, is not noted.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 1 THEN DELETE FROM photos WHERE part = NEW.part AND id = NEW.id; END IF;
    IF NEW.id = 2 THEN UPDATE photos SET image = (SELECT image FROM photos WHERE id = 50) WHERE part = NEW.part AND id = NEW.id; END IF;
    IF NEW.id = 3 THEN UPDATE photos SET note = 'touched' WHERE part = NEW.part AND id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER z_meddle AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO photos (part, id, image) SELECT 'd', i, 'no image' FROM generate_series(1, 3) AS i;
DROP TRIGGER z_meddle ON photos;
SELECT key FROM failed;
SELECT id, note, embedding IS NULL AS missing FROM photos WHERE part = 'd' ORDER BY id;

-- Whoever inserts has failures noted, and sees none of them without the right to read the table.
CREATE ROLE regress_inserter;
GRANT INSERT, UPDATE (image) ON photos TO regress_inserter;
SET ROLE regress_inserter;
INSERT INTO photos (part, id, image) VALUES ('e', 1, 'no image');
SELECT * FROM clip_errors;
SELECT * FROM clip_error;
DELETE FROM clip_errors;
RESET ROLE;
SELECT key FROM failed;
GRANT SELECT ON photos TO regress_inserter;
SET ROLE regress_inserter;
SELECT key FROM clip_errors ORDER BY key;
RESET ROLE;
ALTER TABLE photos ENABLE ROW LEVEL SECURITY;
SET ROLE regress_inserter;
SELECT key FROM clip_errors ORDER BY key;
RESET ROLE;
ALTER TABLE photos DISABLE ROW LEVEL SECURITY;

-- Partitions are noted by their own name; a detached column forgets.
CREATE TABLE parted (id int PRIMARY KEY, image bytea, embedding embedding) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
SELECT clip_attach('parted', on_error => 'null');
INSERT INTO parted VALUES (1, 'no image');
SELECT relation, key FROM clip_errors WHERE relation <> 'photos'::regclass;
SELECT clip_detach('parted');
SELECT clip_detach('photos');
SELECT count(*) FROM clip_error;
-- With 'stop' the error names the row.
SELECT clip_attach('photos');
INSERT INTO photos (part, id, image) VALUES ('f', 1, 'no image');
DROP TABLE photos CASCADE;
DROP ROLE regress_inserter;
