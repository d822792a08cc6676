-- Rows of tables attached with mode 'async' that wait for the worker. The transaction that writes a
-- row queues it. The table is the extension owner's; dumps carry it, since the rows in a dump wait
-- as well.

CREATE TABLE clip_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    embedding name NOT NULL,
    key jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- NULL: at once.
    due timestamptz
);
COMMENT ON TABLE clip_queue IS 'rows that the ingest worker is to encode, by their primary keys';
REVOKE ALL ON clip_queue FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_queue', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_queue_id_seq', '');
