-- Moving a column that is in use to another model.

CREATE PROCEDURE clip_reencode(
    relation regclass,
    model text,
    embedding text DEFAULT 'embedding',
    batch integer DEFAULT 256
)
    AS 'MODULE_PATHNAME', 'clip_reencode_wrapper' LANGUAGE c;
COMMENT ON PROCEDURE clip_reencode(regclass, text, text, integer) IS
    'encodes an attached column with another model: into a second column, which then takes its place';
