-- What dumps carry of tables that not everybody may read: models and roots, whose directories are the
-- server's business, and the keys of waiting rows. pg_dump must be able to read each table that it dumps,
-- whoever runs it, the owner of a database for one; and it refuses views. So it dumps a table that is
-- always empty, with the rows that a function gives to whoever runs it; a restore fills the real ones.

CREATE TABLE clip_dump (relation text NOT NULL, entry text NOT NULL);
COMMENT ON TABLE clip_dump IS
    'always empty: stands in dumps for rows of clip_model, clip_root and clip_queue, as JSON';
GRANT SELECT ON clip_dump TO PUBLIC;

CREATE FUNCTION clip_dumped() RETURNS TABLE (relation text, entry text)
    AS 'MODULE_PATHNAME', 'clip_dumped_wrapper' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10;
COMMENT ON FUNCTION clip_dumped() IS
    'what a dump carries of the extension''s own tables: models and roots for roles that may read files of the server, waiting rows of tables that the caller may read';
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_dump',
    'WHERE false UNION ALL SELECT * FROM @extschema@.clip_dumped()');

CREATE FUNCTION clip_restore() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- One that does not fit, of a table or for a role that is not there, does not take the others along.
    BEGIN
        EXECUTE pg_catalog.format(
            'INSERT INTO %1$I.%2$I SELECT * FROM pg_catalog.jsonb_populate_record(NULL::%1$I.%2$I, $1::pg_catalog.jsonb)',
            TG_TABLE_SCHEMA, NEW.relation) USING NEW.entry;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'an entry of % was not restored: %', NEW.relation, SQLERRM USING DETAIL = NEW.entry;
    END;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION clip_restore() IS 'puts rows of a dump where they belong';
REVOKE ALL ON FUNCTION clip_restore() FROM PUBLIC;
CREATE TRIGGER clip_restore BEFORE INSERT ON clip_dump FOR EACH ROW EXECUTE FUNCTION clip_restore();
