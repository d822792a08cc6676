-- What could not be encoded. The table is the extension owner's, so that whoever writes images has
-- failures noted without a right on it; the view shows the caller's tables.

-- `key` is the row's primary key: a ctid is no key. It may be longer than an index takes.
CREATE TABLE clip_error (
    relation regclass NOT NULL,
    embedding name NOT NULL,
    key jsonb NOT NULL,
    reason text NOT NULL,
    sqlstate text NOT NULL,
    model text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE clip_error IS 'rows whose image could not be encoded; clip_errors shows the caller''s';
REVOKE ALL ON clip_error FROM PUBLIC;
CREATE UNIQUE INDEX clip_error_key ON clip_error (relation, embedding, pg_catalog.md5(key::pg_catalog.text));

CREATE FUNCTION clip_standing_errors(
    relation regclass,
    embedding text,
    OUT key text,
    OUT reason text,
    OUT sqlstate text,
    OUT model text,
    OUT failed_at timestamptz
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'clip_standing_errors_wrapper'
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 1000000;
COMMENT ON FUNCTION clip_standing_errors(regclass, text) IS
    'entries of a column in clip_error whose rows are still there without an embedding, to who may read the table';

CREATE VIEW clip_errors WITH (security_barrier) AS
    SELECT c.relation, c.embedding, s.key::pg_catalog.jsonb AS key, s.reason, s.sqlstate, s.model, s.failed_at
    FROM (SELECT DISTINCT d.relation, d.embedding FROM clip_error AS d
          WHERE pg_catalog.has_table_privilege(d.relation::pg_catalog.oid, 'SELECT'::pg_catalog.text)
            AND NOT pg_catalog.row_security_active(d.relation::pg_catalog.oid)) AS c
    CROSS JOIN LATERAL clip_standing_errors(c.relation, c.embedding::pg_catalog.text) AS s;
COMMENT ON VIEW clip_errors IS
    'rows without an embedding because their image could not be encoded, of tables that the caller may read';
COMMENT ON COLUMN clip_errors.relation IS 'the table';
COMMENT ON COLUMN clip_errors.embedding IS 'the column that stays NULL';
COMMENT ON COLUMN clip_errors.key IS 'the rows primary key: numbers and truth values are JSONs, all else is a string';
COMMENT ON COLUMN clip_errors.reason IS 'the errors message';
COMMENT ON COLUMN clip_errors.sqlstate IS 'its code';
COMMENT ON COLUMN clip_errors.model IS 'that was to encode it';
COMMENT ON COLUMN clip_errors.failed_at IS 'when it failed last';
GRANT SELECT ON clip_errors TO PUBLIC;
