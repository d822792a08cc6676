-- The backfill of tables that were there before. Its progress is shown in 48_queue.sql.

-- One row a column: its last backfill. Written by the procedure, shown by clip_progress.
CREATE TABLE clip_backfill_run (
    relation regclass NOT NULL,
    embedding name NOT NULL,
    embedding_number smallint NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    started timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished boolean NOT NULL DEFAULT false,
    PRIMARY KEY (relation, embedding)
);
COMMENT ON TABLE clip_backfill_run IS 'the last backfill of each column; clip_progress shows the caller''s';
REVOKE ALL ON clip_backfill_run FROM PUBLIC;

CREATE PROCEDURE clip_backfill(
    relation regclass,
    batch integer DEFAULT 256,
    embedding text DEFAULT 'embedding',
    retry boolean DEFAULT false
)
    AS 'MODULE_PATHNAME', 'clip_backfill_wrapper' LANGUAGE c;
COMMENT ON PROCEDURE clip_backfill(regclass, integer, text, boolean) IS
    'encodes what an attached table still lacks, and commits after each batch of rows';
