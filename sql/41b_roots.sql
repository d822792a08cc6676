-- Roots: directories that images are read from by path. The table is the extension owner's alone,
-- since it names directories on the server; clip_roots shows a role what it may use.

CREATE TABLE clip_root (
    name text PRIMARY KEY,
    directory text NOT NULL,
    roles regrole[] NOT NULL
);
COMMENT ON TABLE clip_root IS
    'registered roots; changed by clip_register_root and clip_drop_root, shown by clip_roots';
REVOKE ALL ON clip_root FROM PUBLIC;

CREATE FUNCTION clip_register_root(name text, directory text, roles regrole[] DEFAULT '{}')
    RETURNS void
    AS 'MODULE_PATHNAME', 'clip_register_root_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_register_root(text, text, regrole[]) IS
    'lets roles have images encoded that lie beneath a directory on the server; again: other roles';

CREATE FUNCTION clip_drop_root(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'clip_drop_root_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_drop_root(text) IS 'forgets a root that no column has paths beneath';

CREATE VIEW clip_roots WITH (security_barrier) AS
    SELECT r.name,
           CASE WHEN pg_catalog.pg_has_role('pg_read_server_files'::pg_catalog.name,
                                            'USAGE'::pg_catalog.text)
                THEN r.directory END AS directory,
           r.roles
    FROM clip_root AS r
    WHERE pg_catalog.pg_has_role('pg_read_server_files'::pg_catalog.name, 'USAGE'::pg_catalog.text)
       OR EXISTS (SELECT FROM pg_catalog.unnest(r.roles) AS u (role)
                  WHERE pg_catalog.pg_has_role(u.role::pg_catalog.oid, 'USAGE'::pg_catalog.text));
COMMENT ON VIEW clip_roots IS
    'roots that the caller may use; directories are shown to roles that may read files of the server';
COMMENT ON COLUMN clip_roots.name IS 'as root => takes it';
COMMENT ON COLUMN clip_roots.directory IS 'on the server; NULL for roles that may not read its files';
COMMENT ON COLUMN clip_roots.roles IS 'that may have images beneath it encoded';
GRANT SELECT ON clip_roots TO PUBLIC;

CREATE FUNCTION encode_image_file(root text, path text, model text DEFAULT NULL) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_image_file_wrapper'
    LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_image_file(text, text, text) IS
    'unit-length embedding of the image in a file beneath a root';
