-- The backfill of tables that were there before, and its progress.

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

-- Running is what holds the lock that a backfill takes on its column.
CREATE VIEW clip_progress AS
    SELECT r.relation, r.embedding, r.total, r.done, r.failed,
           (r.done + r.failed) / nullif(extract(epoch FROM r.updated - r.started), 0)::float8 AS rate,
           r.started, r.updated,
           CASE WHEN r.finished THEN 'finished'
                WHEN EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                             WHERE l.locktype = 'advisory' AND l.granted
                               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                                                 WHERE d.datname = pg_catalog.current_database())
                               AND l.classid = r.relation AND l.objid = r.embedding_number::int4::oid
                               AND l.objsubid = 3) THEN 'running'
                ELSE 'interrupted' END AS state
    FROM clip_backfill_run AS r
    WHERE pg_catalog.has_table_privilege(r.relation, 'SELECT');
COMMENT ON VIEW clip_progress IS
    'the last backfill of each attached column of tables that the caller may read; rate in rows a second';
GRANT SELECT ON clip_progress TO PUBLIC;
