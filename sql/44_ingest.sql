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

-- What a trigger's arguments say. The extension reads them in one place, for itself and for this.
CREATE FUNCTION clip_binding_options(arguments bytea)
    RETURNS TABLE (model text, digest text, mode text, on_error text, root text, domain text,
                   attributes text[])
    AS 'MODULE_PATHNAME', 'clip_binding_options_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    ROWS 1;
COMMENT ON FUNCTION clip_binding_options(bytea) IS
    'what the arguments of a trigger of clip_attach say; no row for those of another';

-- The columns of attributes stand behind the image's and the embedding's.
CREATE VIEW clip_binding AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation,
           i.attname AS image,
           e.attname AS embedding,
           e.attnum AS embedding_number,
           o.model,
           o.digest,
           o.mode,
           o.on_error,
           o.root,
           CASE WHEN o.domain IS NOT NULL THEN pg_catalog.concat(o.domain, ':', (
               SELECT pg_catalog.string_agg(
                          CASE WHEN n.name OPERATOR(pg_catalog.=) c.attname::pg_catalog.text THEN n.name
                               ELSE pg_catalog.concat(
                                   n.name, '=', pg_catalog.quote_ident(c.attname::pg_catalog.text)) END,
                          ','::pg_catalog.text ORDER BY n.place)
               FROM pg_catalog.unnest(o.attributes) WITH ORDINALITY AS n (name, place)
               JOIN pg_catalog.pg_attribute AS c
                   ON c.attrelid OPERATOR(pg_catalog.=) t.tgrelid
                   AND c.attnum OPERATOR(pg_catalog.=)
                       t.tgattr[(n.place OPERATOR(pg_catalog.+) 1)::pg_catalog.int4])) END AS attributes,
           t.tgenabled OPERATOR(pg_catalog.<>) 'D'::pg_catalog."char" AS enabled
    FROM pg_catalog.pg_trigger AS t
    CROSS JOIN LATERAL @extschema@.clip_binding_options(t.tgargs) AS o
    JOIN pg_catalog.pg_attribute AS i
        ON i.attrelid OPERATOR(pg_catalog.=) t.tgrelid AND i.attnum OPERATOR(pg_catalog.=) t.tgattr[0]
    JOIN pg_catalog.pg_attribute AS e
        ON e.attrelid OPERATOR(pg_catalog.=) t.tgrelid AND e.attnum OPERATOR(pg_catalog.=) t.tgattr[1]
    WHERE t.tgfoid OPERATOR(pg_catalog.=)
          '@extschema@.clip_ingest()'::pg_catalog.regprocedure::pg_catalog.oid
      AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
      -- As clip_attach makes them: AFTER INSERT OR UPDATE FOR EACH ROW, without a condition.
      AND t.tgtype OPERATOR(pg_catalog.=) 21::pg_catalog.int2 AND t.tgqual IS NULL
      AND NOT t.tgdeferrable
      AND (COALESCE(pg_catalog.cardinality(o.attributes), 0) OPERATOR(pg_catalog.+) 2)
          OPERATOR(pg_catalog.<=) pg_catalog.array_length(t.tgattr, 1);
COMMENT ON VIEW clip_binding IS 'all attached columns of the database; clip_columns shows the caller''s';
REVOKE ALL ON clip_binding FROM PUBLIC;

-- With a barrier, as all views that hide rows: a cheap function in a condition would see them first.
CREATE VIEW clip_columns WITH (security_barrier) AS
    SELECT relation, image, embedding, model, mode, on_error, enabled, root, attributes
    FROM clip_binding
    WHERE pg_catalog.has_column_privilege(
        relation::pg_catalog.oid, embedding_number, 'SELECT'::pg_catalog.text);
COMMENT ON VIEW clip_columns IS
    'attached columns of tables that the caller may read: image, embedding, model, manner and attributes';
COMMENT ON COLUMN clip_columns.relation IS 'the table';
COMMENT ON COLUMN clip_columns.image IS 'column of images, or of their paths or numbers';
COMMENT ON COLUMN clip_columns.embedding IS 'column that follows it';
COMMENT ON COLUMN clip_columns.model IS 'that the column is bound to';
COMMENT ON COLUMN clip_columns.mode IS 'sync: encoded by the statement; async: by the worker after the commit';
COMMENT ON COLUMN clip_columns.on_error IS 'stop: what cannot be encoded fails the statement; null: it stays without an embedding';
COMMENT ON COLUMN clip_columns.enabled IS 'false where the trigger is disabled';
COMMENT ON COLUMN clip_columns.root IS 'beneath which paths lie';
COMMENT ON COLUMN clip_columns.attributes IS 'domain and attributes with the columns that they fill';
GRANT SELECT ON clip_columns TO PUBLIC;
