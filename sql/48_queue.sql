-- Rows of tables attached with mode 'async' that wait for the worker, and the view of all that is
-- encoded apart from the statement that wrote it. The transaction that writes a row queues it. The
-- tables are the extension owner's; dumps carry the queue, since the rows in a dump wait as well.

-- No sequence, since a dump would have to carry its state: entries are told apart by random numbers.
CREATE TABLE clip_queue (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    relation regclass NOT NULL,
    embedding name NOT NULL,
    key jsonb NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- Those that failed, or ended the worker, while the row was tried alone.
    attempts integer NOT NULL DEFAULT 0,
    -- How often in a row it was put off with no attempt counted: something was locked.
    pauses integer NOT NULL DEFAULT 0,
    -- Whether it is tried alone, since it may be at fault.
    suspect boolean NOT NULL DEFAULT false,
    -- NULL: at once.
    due timestamptz,
    -- Why it was put off last.
    reason text,
    sqlstate text
);
COMMENT ON TABLE clip_queue IS 'rows that the ingest worker is to encode, by their primary keys';
REVOKE ALL ON clip_queue FROM PUBLIC;
-- A relation's next entries, and the next relation.
CREATE INDEX clip_queue_next ON clip_queue (relation, suspect, due);
ALTER TABLE clip_queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How the worker gets on with each relation that has entries; a row lasts until a step succeeds.
-- Relation 0 stands for the whole queue.
CREATE TABLE clip_queue_lane (
    relation oid PRIMARY KEY,
    -- The entries of the step that is under way, written before it begins: left over, the worker died.
    begun uuid[],
    -- How often in a row it was put off.
    pauses integer NOT NULL DEFAULT 0,
    due timestamptz,
    reason text,
    -- Whether it was put off because the worker died; then its owner's other relations wait too.
    deadly boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE clip_queue_lane IS 'relations that the ingest worker is at or has put off; clip_progress shows the caller''s';
REVOKE ALL ON clip_queue_lane FROM PUBLIC;

-- Of backfills: running is what holds the lock that a backfill takes on its column. Of the queue:
-- what waits, by column. A reason may quote a row, so it is kept from whom policies keep rows from.
CREATE VIEW clip_progress WITH (security_barrier) AS
    SELECT r.relation, r.embedding, r.total, r.done, r.failed,
           CASE WHEN r.updated OPERATOR(pg_catalog.>) r.started THEN
               (r.done OPERATOR(pg_catalog.+) r.failed)::pg_catalog.float8 OPERATOR(pg_catalog./)
               EXTRACT(epoch FROM r.updated OPERATOR(pg_catalog.-) r.started)::pg_catalog.float8
           END AS rate,
           r.started, r.updated,
           CASE WHEN r.finished THEN 'finished'
                WHEN EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                             WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted
                               AND l.database OPERATOR(pg_catalog.=) (
                                   SELECT d.oid FROM pg_catalog.pg_database AS d
                                   WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                               AND l.classid OPERATOR(pg_catalog.=) r.relation::pg_catalog.oid
                               AND l.objid OPERATOR(pg_catalog.=)
                                   r.embedding_number::pg_catalog.int4::pg_catalog.oid
                               AND l.objsubid OPERATOR(pg_catalog.=) 3::pg_catalog.int2) THEN 'running'
                ELSE 'interrupted' END AS state,
           'backfill' AS task,
           NULL::pg_catalog.int8 AS waiting,
           NULL::pg_catalog.timestamptz AS waiting_since,
           NULL::pg_catalog.timestamptz AS next_try
    FROM clip_backfill_run AS r
    WHERE pg_catalog.has_table_privilege(r.relation::pg_catalog.oid, 'SELECT')
    UNION ALL
    SELECT q.relation, q.embedding, NULL, NULL, NULL, NULL, NULL, NULL,
           CASE WHEN o.reason IS NOT NULL THEN 'paused: ' OPERATOR(pg_catalog.||) o.reason
                WHEN l.reason IS NOT NULL THEN 'paused: ' OPERATOR(pg_catalog.||) l.reason
                WHEN d.due IS NOT NULL THEN 'paused: the worker died over a table of the same owner'
                WHEN q.ready OPERATOR(pg_catalog.>) 0 THEN 'queued'
                WHEN q.reason IS NULL OR pg_catalog.row_security_active(q.relation::pg_catalog.oid)
                THEN 'retrying'
                ELSE 'retrying: ' OPERATOR(pg_catalog.||) q.reason END,
           'queue', q.waiting, q.waiting_since,
           GREATEST(o.due, l.due, d.due, CASE WHEN q.ready OPERATOR(pg_catalog.=) 0 THEN q.due END)
    FROM (SELECT e.relation, e.embedding, pg_catalog.count(*) AS waiting,
                 pg_catalog.min(e.queued_at) AS waiting_since,
                 pg_catalog.count(*) FILTER (
                     WHERE e.due IS NULL OR e.due OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) AS ready,
                 pg_catalog.min(e.due) AS due,
                 (pg_catalog.array_agg(e.reason ORDER BY e.due))[1] AS reason
          FROM clip_queue AS e
          WHERE pg_catalog.has_table_privilege(e.relation::pg_catalog.oid, 'SELECT')
          GROUP BY e.relation, e.embedding) AS q
    LEFT JOIN clip_queue_lane AS o ON o.relation OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    LEFT JOIN clip_queue_lane AS l ON l.relation OPERATOR(pg_catalog.=) q.relation::pg_catalog.oid
    LEFT JOIN LATERAL (
        SELECT pg_catalog.max(x.due) AS due
        FROM clip_queue_lane AS x
        JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) x.relation
        JOIN pg_catalog.pg_class AS own ON own.oid OPERATOR(pg_catalog.=) q.relation::pg_catalog.oid
        WHERE x.deadly AND x.due OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
          AND c.relowner OPERATOR(pg_catalog.=) own.relowner
    ) AS d ON true;
COMMENT ON VIEW clip_progress IS
    'the last backfill of each attached column (rate in rows a second) and what waits for the worker, of tables that the caller may read';
COMMENT ON COLUMN clip_progress.relation IS 'the table';
COMMENT ON COLUMN clip_progress.embedding IS 'the column';
COMMENT ON COLUMN clip_progress.total IS 'of a backfill: rows that lacked an embedding when it began';
COMMENT ON COLUMN clip_progress.done IS 'of a backfill: rows encoded';
COMMENT ON COLUMN clip_progress.failed IS 'of a backfill: rows that could not be encoded';
COMMENT ON COLUMN clip_progress.rate IS 'of a backfill: rows a second';
COMMENT ON COLUMN clip_progress.started IS 'of a backfill: when it began';
COMMENT ON COLUMN clip_progress.updated IS 'of a backfill: when it last committed';
COMMENT ON COLUMN clip_progress.state IS 'of a backfill running, interrupted or finished; of a queue queued, retrying or paused, and why';
COMMENT ON COLUMN clip_progress.task IS 'backfill or queue';
COMMENT ON COLUMN clip_progress.waiting IS 'of a queue: rows that wait for the worker';
COMMENT ON COLUMN clip_progress.waiting_since IS 'of a queue: the time of the one that has waited longest';
COMMENT ON COLUMN clip_progress.next_try IS 'of a queue: when what was put off is tried again';
GRANT SELECT ON clip_progress TO PUBLIC;
