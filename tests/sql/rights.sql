-- Whose rights the trigger has: embeddings are written for everybody who may insert, as the
-- table's owner, and owners' code does not run with an inserter's search path.
\set one `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
CREATE ROLE regress_owner;
CREATE ROLE regress_writer;
GRANT CREATE ON SCHEMA public TO regress_owner;
CREATE SCHEMA writers AUTHORIZATION regress_writer;

SET ROLE regress_owner;
CREATE TABLE cameras (id int PRIMARY KEY);
INSERT INTO cameras VALUES (1);
CREATE TABLE photos (id int PRIMARY KEY, secret text DEFAULT 'secret', image bytea, embedding embedding, who text,
    camera int REFERENCES cameras DEFERRABLE INITIALLY DEFERRED);
SELECT clip_attach('photos');
GRANT INSERT (id, image, camera), UPDATE (image) ON photos TO regress_writer;
-- A trigger that says who it ran as, and with which search path.
CREATE FUNCTION note_who() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.who := concat_ws(', ', NEW.who, TG_OP || ' as ' || current_user || ' with ' || current_setting('search_path'));
    RETURN NEW;
END $$;
CREATE TRIGGER note_who BEFORE INSERT OR UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION note_who();

SET ROLE regress_writer;
SET search_path = writers, public;
INSERT INTO photos (id, image, camera) VALUES (1, decode(:'one', 'base64'), 1);
-- Its own rights are as they were.
SELECT current_user, current_setting('search_path');
SELECT count(*) FROM photos;
UPDATE photos SET embedding = NULL;
UPDATE photos SET image = image;
-- A deferred constraint is checked as ever.
BEGIN;
INSERT INTO photos (id, image, camera) VALUES (2, decode(:'one', 'base64'), 2);
\set VERBOSITY sqlstate
COMMIT;
\set VERBOSITY verbose
-- An error names the key to those who may read it.
INSERT INTO photos (id, image) VALUES (3, 'no image');
SET ROLE regress_owner;
INSERT INTO photos (id, image) VALUES (4, 'no image');
RESET search_path;
INSERT INTO photos (id, image, camera) VALUES (5, decode(:'one', 'base64'), 1);
SELECT id, embedding <=> encode_image(image) < 1e-3 AS fits, who FROM photos ORDER BY id;

-- Forced row-level security that hides the rows from their owner: an error, not a lost embedding.
ALTER TABLE photos ENABLE ROW LEVEL SECURITY;
ALTER TABLE photos FORCE ROW LEVEL SECURITY;
CREATE POLICY all_may_insert ON photos FOR INSERT WITH CHECK (true);
SET ROLE regress_writer;
INSERT INTO photos (id, image) VALUES (6, decode(:'one', 'base64'));
SET ROLE regress_owner;
CREATE POLICY owner ON photos TO regress_owner USING (true);
SET ROLE regress_writer;
INSERT INTO photos (id, image) VALUES (6, decode(:'one', 'base64'));
SET ROLE regress_owner;
SELECT id, embedding <=> encode_image(image) < 1e-3 AS fits FROM photos WHERE id = 6;

-- Searches have the caller's rights: columns, and policies on rows.
GRANT SELECT (id, embedding) ON photos TO regress_writer;
CREATE POLICY writer ON photos FOR SELECT TO regress_writer USING (id = 6);
SET ROLE regress_writer;
SELECT * FROM text_search(NULL::photos, 'x');
SELECT relation, embedding FROM clip_columns;
SET ROLE regress_owner;
GRANT SELECT ON photos TO regress_writer;
SET ROLE regress_writer;
SELECT (hit).id FROM text_search(NULL::photos, 'x');
SET ROLE regress_owner;
REVOKE SELECT ON photos FROM regress_writer;
REVOKE SELECT (id, embedding) ON photos FROM regress_writer;
SET ROLE regress_writer;
SELECT * FROM text_search(NULL::photos, 'x');
SELECT relation FROM clip_columns;

-- What is not theirs.
SELECT clip_attach('photos');
SELECT clip_detach('photos');
SELECT clip_register_model('mine', '/tmp');
SELECT clip_drop_model('pgclip-traffic-tiny');
SELECT clip_register_builtin();
SELECT * FROM clip_model;
SELECT * FROM clip_binding;
UPDATE clip_ingest_end SET ended = true;
INSERT INTO clip_templates (domain) VALUES ('mine');
SELECT directory FROM clip_models;
SET pgclip.device = 'cpu';
-- Worded otherwise by each version.
\set VERBOSITY sqlstate
SHOW pgclip.encoder_path;

\set VERBOSITY verbose
-- Operators of the caller's are not found while the rights are the extension owner's.
SET search_path = writers, public;
CREATE FUNCTION same(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'runs as %', current_user;
    RETURN false;
END $$;
CREATE OPERATOR = (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = same);
CREATE TABLE parted (id int, image bytea, embedding embedding) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
SELECT clip_attach('parted_1');
SELECT clip_attach('parted');
-- The guard of the templates guards no other table.
CREATE TABLE templates (LIKE clip_templates);
CREATE TRIGGER guard BEFORE UPDATE ON templates FOR EACH ROW EXECUTE FUNCTION clip_builtin_guard();

RESET ROLE;
DROP OWNED BY regress_owner, regress_writer CASCADE;
DROP ROLE regress_owner, regress_writer;
