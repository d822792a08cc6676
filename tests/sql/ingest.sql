-- clip_attach and the rows it encodes: INSERT, COPY, UPDATE, upserts, savepoints, nested triggers.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
\set two `base64 -w0 "$ROOT/crates/clip/tests/golden/images/s2_200x100.png"`
CREATE TABLE samples (name text PRIMARY KEY, image bytea);
INSERT INTO samples VALUES ('one', decode(:'one', 'base64')), ('two', decode(:'two', 'base64'));
CREATE FUNCTION sample(text) RETURNS bytea LANGUAGE sql STABLE AS 'SELECT image FROM samples WHERE name = $1';
CREATE TABLE photos (id int PRIMARY KEY, note text, image bytea, embedding embedding);
-- Does each embedding fit its image?
CREATE VIEW checked AS
    SELECT id, note, CASE WHEN embedding IS NULL THEN 'none'
                WHEN image IS NULL THEN 'without image'
                WHEN embedding <=> encode_image(image) < 1e-3 THEN 'right' ELSE 'another' END AS embedding
    FROM photos;

SELECT clip_attach('photos');
SELECT * FROM clip_columns;
SELECT pg_get_triggerdef(oid) ~ 'AFTER INSERT OR UPDATE OF image, embedding ON public.photos FOR EACH ROW EXECUTE FUNCTION clip_ingest\(''pgclip-traffic-tiny'', ''[0-9a-f]{64}''\)' AS trigger
FROM pg_trigger WHERE tgrelid = 'photos'::regclass AND tgname = 'pgclip_embedding';
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'photos'::regclass AND tgname <> 'pgclip_embedding';

INSERT INTO photos (id, image) VALUES (1, sample('one')), (2, sample('two')), (3, NULL);
SELECT * FROM checked ORDER BY id;
-- RETURNING is before the statement's end.
INSERT INTO photos (id, image) VALUES (4, sample('one')) RETURNING id, embedding;
-- A row that comes with an embedding keeps it.
INSERT INTO photos (id, image, embedding) SELECT 5, sample('two'), embedding FROM photos WHERE id = 1;
INSERT INTO photos (id, image, embedding) SELECT 6, NULL, embedding FROM photos WHERE id = 1;
SELECT * FROM checked WHERE id > 3 ORDER BY id;

-- Updates: the image alone, both, the image to NULL, the embedding to NULL, neither.
UPDATE photos SET image = sample('two') WHERE id = 1 RETURNING embedding;
UPDATE photos SET image = sample('two'), embedding = (SELECT embedding FROM photos WHERE id = 4) WHERE id = 2;
UPDATE photos SET image = NULL WHERE id = 4;
UPDATE photos SET embedding = NULL WHERE id = 5;
UPDATE photos SET note = 'noted' WHERE id = 6;
SELECT * FROM checked ORDER BY id;
UPDATE photos SET image = sample('one');
SELECT embedding, count(*) FROM checked GROUP BY 1;

-- COPY, more rows than a batch holds.
COPY (SELECT i, image FROM generate_series(100, 299) AS i, samples WHERE name = CASE i % 2 WHEN 0 THEN 'one' ELSE 'two' END ORDER BY i) TO PROGRAM 'cat > photos.copy';
COPY photos (id, image) FROM PROGRAM 'cat photos.copy';
SELECT embedding, count(*) FROM checked GROUP BY 1;
SELECT count(DISTINCT embedding) FROM photos WHERE id >= 100 AND id % 2 = 0;

-- A bad image fails the statement, which leaves nothing; the message names table, row and reason.
INSERT INTO photos (id, image) SELECT i, CASE WHEN i = 380 THEN 'no image' ELSE sample('two') END FROM generate_series(300, 399) AS i;
UPDATE photos SET image = '\xffd8ffe0' WHERE id = 1;
INSERT INTO photos (id, image) VALUES (300, '');
SELECT count(*) FROM photos WHERE id >= 300;
CREATE TABLE "No Key" ("Bild" bytea, "Vektor" embedding);
SELECT clip_attach('"No Key"', 'Bild', 'Vektor');
INSERT INTO "No Key" VALUES (sample('one')), ('no image');
INSERT INTO "No Key" VALUES (sample('one'));
SELECT "Vektor" <=> encode_image("Bild") < 1e-3 AS fits FROM "No Key";

-- Upsert, MERGE-like CTEs, several tables in one statement.
INSERT INTO photos (id, image) VALUES (1, sample('two')), (7, sample('one'))
    ON CONFLICT (id) DO UPDATE SET image = excluded.image;
INSERT INTO photos (id, image) VALUES (1, sample('one')) ON CONFLICT DO NOTHING;
WITH new AS (INSERT INTO photos (id, image) VALUES (8, sample('two')) RETURNING image)
INSERT INTO "No Key" SELECT image FROM new;
SELECT * FROM checked WHERE id IN (1, 7, 8) ORDER BY id;
SELECT count(*), count("Vektor") FROM "No Key";

-- Savepoints, and errors caught in the middle.
BEGIN;
INSERT INTO photos (id, image) VALUES (10, sample('one'));
SAVEPOINT a;
INSERT INTO photos (id, image) VALUES (11, sample('one'));
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO photos (id, image) VALUES (12, 'no image');
ROLLBACK TO b;
INSERT INTO photos (id, image) VALUES (13, sample('two'));
RELEASE b;
COMMIT;
DO $$
BEGIN
    FOR i IN 20..25 LOOP
        BEGIN
            INSERT INTO photos (id, image) VALUES (i, sample('one')), (i + 100000, CASE i % 2 WHEN 0 THEN 'no image' ELSE sample('two') END);
        EXCEPTION WHEN invalid_binary_representation THEN
            INSERT INTO photos (id, note, image) VALUES (i, 'caught', sample('two'));
        END;
    END LOOP;
END $$;
SELECT * FROM checked WHERE id BETWEEN 10 AND 25 OR id > 100000 ORDER BY id;

-- A trigger that inserts into another attached table and swallows its errors, before and after ours.
CREATE TABLE copies (id int, image bytea, embedding embedding);
SELECT clip_attach('copies');
CREATE FUNCTION copy_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        INSERT INTO copies VALUES (NEW.id, NEW.image);
        IF NEW.id % 2 = 0 THEN INSERT INTO copies VALUES (NEW.id, 'no image'); END IF;
    EXCEPTION WHEN invalid_binary_representation THEN
        INSERT INTO copies VALUES (-NEW.id, NEW.image);
    END;
    -- A nested statement is encoded at its own end.
    IF EXISTS (SELECT FROM copies WHERE embedding IS NULL) THEN RAISE 'not encoded'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a_copy AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION copy_row();
INSERT INTO photos (id, image) SELECT i, sample('one') FROM generate_series(30, 33) AS i;
ALTER TRIGGER a_copy ON photos RENAME TO z_copy;
INSERT INTO photos (id, image) SELECT i, sample('two') FROM generate_series(34, 37) AS i;
SELECT * FROM checked WHERE id BETWEEN 30 AND 37 ORDER BY id;
SELECT id, embedding <=> encode_image(image) < 1e-3 AS fits FROM copies ORDER BY id;
DROP TRIGGER z_copy ON photos;

-- Triggers that change or delete the row between its writing and ours.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 40 THEN UPDATE photos SET note = 'touched' WHERE id = NEW.id; END IF;
    IF NEW.id = 41 THEN UPDATE photos SET image = sample('two') WHERE id = NEW.id; END IF;
    IF NEW.id = 42 THEN DELETE FROM photos WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER a_meddle AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO photos (id, image) SELECT i, sample('one') FROM generate_series(40, 43) AS i;
SELECT * FROM checked WHERE id BETWEEN 40 AND 43 ORDER BY id;
DROP TRIGGER a_meddle ON photos;

-- Switched off, rows stay as they are; writing them again encodes them.
ALTER TABLE photos DISABLE TRIGGER USER;
INSERT INTO photos (id, image) VALUES (50, sample('one'));
SELECT enabled FROM clip_columns WHERE relation = 'photos'::regclass;
ALTER TABLE photos ENABLE TRIGGER USER;
UPDATE photos SET image = image WHERE embedding IS NULL AND image IS NOT NULL;
SELECT * FROM checked WHERE id = 50;

-- Rows that a trigger moves to another partition before their embeddings are there.
CREATE TABLE moved (id int, image bytea, embedding embedding) PARTITION BY LIST (id);
CREATE TABLE moved_1 PARTITION OF moved FOR VALUES IN (1);
CREATE TABLE moved_2 PARTITION OF moved FOR VALUES IN (2);
SELECT clip_attach('moved');
CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE moved SET id = 2 WHERE tableoid = TG_RELID AND id = 1;
    RETURN NULL;
END $$;
CREATE TRIGGER z_move AFTER INSERT ON moved_1 FOR EACH ROW EXECUTE FUNCTION move();
INSERT INTO moved (id, image) SELECT 1, sample('one') FROM generate_series(1, 20);
SELECT tableoid::regclass, count(*), bool_and(embedding <=> encode_image(image) < 1e-3) AS fits FROM moved GROUP BY 1;
SELECT pg_relation_size('moved_1') <= 8192 AS compact;
DROP TABLE moved;

-- Without the event at the statement's end nothing is lost silently.
ALTER TABLE clip_ingest_end DISABLE TRIGGER clip_flush;
INSERT INTO photos (id, image) VALUES (51, sample('one'));
ALTER TABLE clip_ingest_end ENABLE ALWAYS TRIGGER clip_flush;
SELECT count(*) FROM photos WHERE id = 51;

-- Renamed columns are followed; a column that is needed is not dropped.
ALTER TABLE copies RENAME image TO picture;
ALTER TABLE copies RENAME embedding TO vector;
ALTER TABLE copies RENAME TO clones;
INSERT INTO clones VALUES (60, sample('one'));
SELECT vector <=> encode_image(picture) < 1e-3 AS fits FROM clones WHERE id = 60;
SELECT relation, image, embedding FROM clip_columns WHERE relation = 'clones'::regclass;
ALTER TABLE clones DROP COLUMN picture;

-- Detached, images are left alone.
SELECT clip_detach('clones', 'vector');
INSERT INTO clones VALUES (61, 'anything');
SELECT clip_detach('clones', 'vector');
DROP TABLE photos CASCADE;
SELECT relation FROM clip_columns;
