-- Ingest: the trigger that keeps a column of embeddings in step with a column of images, and the
-- views of what is attached. A trigger is the binding itself: its columns are the image and the
-- embedding, its arguments the model's name and digest.

CREATE FUNCTION clip_ingest() RETURNS trigger
    AS 'MODULE_PATHNAME', 'clip_ingest' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_ingest() IS 'trigger of attached tables, made by clip_attach';

CREATE FUNCTION clip_outdate() RETURNS trigger
    AS 'MODULE_PATHNAME', 'clip_outdate' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_outdate() IS 'trigger of attached tables, made by clip_attach';

CREATE FUNCTION clip_flush() RETURNS trigger
    AS 'MODULE_PATHNAME', 'clip_flush' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_flush() IS 'encodes what is left at the end of a statement';
REVOKE ALL ON FUNCTION clip_flush() FROM PUBLIC;

-- Never has a row: an UPDATE of it inside of a statement's triggers queues clip_flush behind them.
CREATE TABLE clip_ingest_end (ended boolean);
COMMENT ON TABLE clip_ingest_end IS 'always empty; its trigger runs at the end of a statement that wrote images';
REVOKE ALL ON clip_ingest_end FROM PUBLIC;
CREATE TRIGGER clip_flush AFTER UPDATE ON clip_ingest_end
    FOR EACH STATEMENT EXECUTE FUNCTION clip_flush();
ALTER TABLE clip_ingest_end ENABLE ALWAYS TRIGGER clip_flush;

CREATE FUNCTION clip_attach(
    relation regclass,
    image text DEFAULT 'image',
    embedding text DEFAULT 'embedding',
    model text DEFAULT NULL,
    mode text DEFAULT 'sync',
    on_error text DEFAULT NULL,
    root text DEFAULT NULL,
    attributes text DEFAULT NULL
) RETURNS void
    AS 'MODULE_PATHNAME', 'clip_attach_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_attach(regclass, text, text, text, text, text, text, text) IS
    'from now on the embedding column of a table follows its image column, and with attributes (vehicle:colour,type=kind) columns of text say what the image shows where they are NULL; for the table''s owner';

CREATE FUNCTION clip_detach(relation regclass, embedding text DEFAULT 'embedding') RETURNS void
    AS 'MODULE_PATHNAME', 'clip_detach_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_detach(regclass, text) IS
    'the embedding column of a table no longer follows its image column; for the table''s owner';

-- A trigger's arguments are bytes, each ended by a zero byte; they are all ASCII: a model's name, a
-- digest, options. The columns of attributes stand behind the image's and the embedding's.
CREATE VIEW clip_binding AS
    SELECT t.tgrelid::regclass AS relation,
           i.attname AS image,
           e.attname AS embedding,
           e.attnum AS embedding_number,
           pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1) AS model,
           pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 2) AS digest,
           CASE WHEN pg_catalog.encode(t.tgargs, 'escape') LIKE '%\\000mode=async\\000%'
                THEN 'async' ELSE 'sync' END AS mode,
           CASE WHEN pg_catalog.encode(t.tgargs, 'escape') LIKE '%\\000on_error=null\\000%'
                THEN 'null' ELSE 'stop' END AS on_error,
           pg_catalog.substring(pg_catalog.encode(t.tgargs, 'escape'),
                                '\\000root=([^\\]+)\\000') AS root,
           a.domain || ':' || (
               SELECT pg_catalog.string_agg(
                          CASE WHEN n.name = c.attname THEN n.name
                               ELSE n.name || '=' || pg_catalog.quote_ident(c.attname) END,
                          ',' ORDER BY n.place)
               FROM pg_catalog.unnest(a.names) WITH ORDINALITY AS n (name, place)
               JOIN pg_catalog.pg_attribute AS c
                   ON c.attrelid = t.tgrelid AND c.attnum = t.tgattr[n.place + 1]) AS attributes,
           t.tgenabled <> 'D' AS enabled
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_attribute AS i ON i.attrelid = t.tgrelid AND i.attnum = t.tgattr[0]
    JOIN pg_catalog.pg_attribute AS e ON e.attrelid = t.tgrelid AND e.attnum = t.tgattr[1]
    LEFT JOIN LATERAL (
        SELECT m.found[1] AS domain, pg_catalog.string_to_array(m.found[2], ',') AS names
        FROM pg_catalog.regexp_match(pg_catalog.encode(t.tgargs, 'escape'),
                                     '\\000attributes=([^:\\]+):([^\\]+)\\000') AS m (found)
    ) AS a ON true
    WHERE t.tgfoid = 'clip_ingest()'::regprocedure AND t.tgparentid = 0;
COMMENT ON VIEW clip_binding IS 'all attached columns of the database; clip_columns shows the caller''s';
REVOKE ALL ON clip_binding FROM PUBLIC;

CREATE VIEW clip_columns AS
    SELECT relation, image, embedding, model, mode, on_error, enabled, root, attributes
    FROM clip_binding
    WHERE pg_catalog.has_column_privilege(relation, embedding_number, 'SELECT');
COMMENT ON VIEW clip_columns IS
    'attached columns of tables that the caller may read: image, embedding, model, manner and attributes';
GRANT SELECT ON clip_columns TO PUBLIC;
