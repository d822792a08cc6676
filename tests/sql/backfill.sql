-- CALL clip_backfill: what it takes, refuses, encodes, leaves alone and says about itself.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
CREATE TABLE photos (id int PRIMARY KEY, note text, image bytea, embedding embedding);
INSERT INTO photos (id, image)
SELECT i, CASE WHEN i % 100 = 7 THEN 'no image' WHEN i % 100 = 8 THEN NULL ELSE decode(:'one', 'base64') END
FROM generate_series(1, 300) AS i;
CALL clip_backfill('photos');
SELECT clip_attach('photos');
CALL clip_backfill('nothing');
CALL clip_backfill('photos', embedding => 'nothing');
CALL clip_backfill(NULL);
CALL clip_backfill('photos', 0);
CALL clip_backfill(4294967295::oid::regclass);
BEGIN;
CALL clip_backfill('photos');
ROLLBACK;
CREATE FUNCTION call() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL clip_backfill('photos'); END $$;
SELECT call();
SELECT count(embedding) FROM photos;

CALL clip_backfill('photos', 64);
SELECT count(*), count(embedding), max(embedding <=> encode_image(image)) FILTER (WHERE embedding IS NOT NULL) < 1e-3 AS fits FROM photos;
SELECT relation, embedding, total, done, failed, state FROM clip_progress;
SELECT key, sqlstate FROM clip_errors ORDER BY key;
-- What failed is not tried again, but on demand; mended, it is forgotten.
CALL clip_backfill('photos');
SELECT total, done, failed, state FROM clip_progress;
CALL clip_backfill('photos', retry => true);
SELECT total, done, failed, state FROM clip_progress;
ALTER TABLE photos DISABLE TRIGGER USER;
UPDATE photos SET image = decode(:'one', 'base64') WHERE id = 7;
ALTER TABLE photos ENABLE TRIGGER USER;
-- A block of plpgsql may commit, and so may what it calls.
DO $$ BEGIN CALL clip_backfill('photos', retry => true); END $$;
SELECT key FROM clip_errors ORDER BY key;
SELECT embedding IS NOT NULL AS encoded FROM photos WHERE id = 7;

-- A key is needed.
CREATE TABLE keyless (image bytea, embedding embedding);
SELECT clip_attach('keyless');
CALL clip_backfill('keyless');

-- Partitions, with columns in another order, and names that want quotes.
CREATE TABLE "Par ted" (id int PRIMARY KEY, image bytea, "Vek tor" embedding) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF "Par ted" FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 ("Vek tor" embedding, dropped int, image bytea, id int NOT NULL);
ALTER TABLE parted_2 DROP COLUMN dropped;
ALTER TABLE "Par ted" ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
INSERT INTO "Par ted" SELECT i, CASE i WHEN 13 THEN 'no image' ELSE decode(:'one', 'base64') END FROM generate_series(0, 19) AS i;
SELECT clip_attach('"Par ted"', embedding => 'Vek tor');
CALL clip_backfill('"Par ted"', embedding => 'Vek tor');
SELECT tableoid::regclass, count(*), count("Vek tor"), max("Vek tor" <=> encode_image(image)) FILTER (WHERE "Vek tor" IS NOT NULL) < 1e-3 AS fits FROM "Par ted" GROUP BY 1 ORDER BY 1;
SELECT relation, key FROM clip_errors WHERE relation <> 'photos'::regclass;
SELECT relation, total, done, failed, state FROM clip_progress WHERE relation <> 'photos'::regclass;

-- Rights: reading the table and writing the embedding; written as the owner, in a restricted operation.
CREATE ROLE regress_owner;
CREATE ROLE regress_filler;
GRANT CREATE ON SCHEMA public TO regress_owner;
SET ROLE regress_owner;
CREATE TABLE theirs (id int PRIMARY KEY, image bytea, embedding embedding, who text);
SELECT clip_attach('theirs');
CREATE FUNCTION note_who() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.who := current_user || ' with ' || current_setting('search_path');
    BEGIN
        EXECUTE 'SET ROLE NONE';
    EXCEPTION WHEN insufficient_privilege THEN
        NEW.who := NEW.who || ', restricted';
    END;
    RETURN NEW;
END $$;
ALTER TABLE theirs DISABLE TRIGGER USER;
INSERT INTO theirs VALUES (1, decode(:'one', 'base64'));
ALTER TABLE theirs ENABLE TRIGGER USER;
CREATE TRIGGER note_who BEFORE UPDATE ON theirs FOR EACH ROW EXECUTE FUNCTION note_who();
-- A deferred trigger does not wait for the commit, when it would have the caller's rights.
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'late as %', current_user; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON theirs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
SET ROLE regress_filler;
CALL clip_backfill('theirs');
SELECT count(*) FROM clip_progress;
RESET ROLE;
GRANT SELECT, UPDATE (embedding) ON theirs TO regress_filler;
SET ROLE regress_filler;
CALL clip_backfill('theirs');
SELECT relation, done, state FROM clip_progress;
SELECT id, embedding <=> encode_image(image) < 1e-3 AS fits, who FROM theirs;
RESET ROLE;
UPDATE theirs SET who = NULL;
ALTER TABLE theirs DISABLE TRIGGER USER;
UPDATE theirs SET embedding = NULL;
ALTER TABLE theirs ENABLE TRIGGER USER;
CALL clip_backfill('theirs');
SELECT id, embedding <=> encode_image(image) < 1e-3 AS fits, who FROM theirs;
DROP OWNED BY regress_owner, regress_filler CASCADE;
DROP ROLE regress_owner, regress_filler;
DROP TABLE photos, keyless, "Par ted";
SELECT * FROM clip_progress;
