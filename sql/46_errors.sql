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

CREATE FUNCTION clip_error_stands(relation regclass, embedding text, key text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'clip_error_stands_wrapper' LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION clip_error_stands(regclass, text, text) IS
    'whether a row that could not be encoded is still there and without an embedding, as clip_errors asks';

CREATE VIEW clip_errors WITH (security_barrier) AS
    SELECT relation, embedding, key, reason, sqlstate, model, failed_at
    FROM clip_error
    WHERE pg_catalog.has_table_privilege(relation::pg_catalog.oid, 'SELECT'::pg_catalog.text)
      AND NOT pg_catalog.row_security_active(relation::pg_catalog.oid)
      AND clip_error_stands(relation, embedding::pg_catalog.text, key::pg_catalog.text);
COMMENT ON VIEW clip_errors IS
    'rows without an embedding because their image could not be encoded, of tables that the caller may read';
GRANT SELECT ON clip_errors TO PUBLIC;
