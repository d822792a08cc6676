-- Models: the registered ones and the functions that change them. The table is the extension
-- owner's alone, since it names directories on the server; clip_models shows what is public.

CREATE TABLE clip_model (
    name text PRIMARY KEY,
    directory text NOT NULL,
    dimensions integer NOT NULL,
    logit_scale real NOT NULL,
    logit_bias real, -- of models that were trained with a sigmoid
    architecture text NOT NULL,
    precision text NOT NULL,
    digest bytea NOT NULL CHECK (pg_catalog.octet_length(digest) OPERATOR(pg_catalog.=) 32),
    builtin boolean NOT NULL,
    -- the mean of many texts' embeddings: the model's own, or computed when it was registered
    mean_text_embedding real[]
);
COMMENT ON TABLE clip_model IS
    'registered models; changed by clip_register_model and clip_drop_model, shown by clip_models';
REVOKE ALL ON clip_model FROM PUBLIC;

CREATE FUNCTION clip_register_model(name text, directory text) RETURNS void
    AS 'MODULE_PATHNAME', 'clip_register_model_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_register_model(text, text) IS
    'checks the model in a directory on the server and registers it under a name';

CREATE FUNCTION clip_drop_model(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'clip_drop_model_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_drop_model(text) IS 'forgets a registered model that no column is bound to';

CREATE FUNCTION clip_register_builtin() RETURNS void
    AS 'MODULE_PATHNAME', 'clip_register_builtin_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION clip_register_builtin() IS
    'registers the built-in model as it is installed; part of installing and updating the extension';
REVOKE ALL ON FUNCTION clip_register_builtin() FROM PUBLIC;
SELECT @extschema@.clip_register_builtin();

CREATE VIEW clip_models AS
    SELECT m.name,
           m.dimensions,
           m.architecture,
           m.precision,
           m.logit_scale,
           m.logit_bias,
           pg_catalog.encode(m.digest, 'hex'::pg_catalog.text) AS digest,
           CASE WHEN pg_catalog.pg_has_role('pg_read_server_files'::pg_catalog.name,
                                            'USAGE'::pg_catalog.text)
                THEN m.directory END AS directory,
           m.builtin,
           m.name OPERATOR(pg_catalog.=)
               CASE WHEN s.named OPERATOR(pg_catalog.<>) ''::pg_catalog.text THEN s.named
                    ELSE 'pgclip-traffic-tiny'::pg_catalog.text END AS is_default
    FROM clip_model AS m,
         (SELECT pg_catalog.current_setting('pgclip.model'::pg_catalog.text, true)) AS s (named);
COMMENT ON VIEW clip_models IS
    'registered models; directories are shown to roles that may read files of the server';
COMMENT ON COLUMN clip_models.name IS 'as model => takes it';
COMMENT ON COLUMN clip_models.dimensions IS 'numbers in an embedding';
COMMENT ON COLUMN clip_models.architecture IS 'what the models directory says of it, and what it does item by item';
COMMENT ON COLUMN clip_models.precision IS 'of its weights: fp32, fp16, or as its graphs are';
COMMENT ON COLUMN clip_models.logit_scale IS 'multiplier of similarities in zero-shot probabilities';
COMMENT ON COLUMN clip_models.logit_bias IS 'added to them, in models that judge each label by itself; else NULL';
COMMENT ON COLUMN clip_models.digest IS 'SHA-256 of clip.json, which pins every other file';
COMMENT ON COLUMN clip_models.directory IS 'on the server; NULL for roles that may not read its files';
COMMENT ON COLUMN clip_models.builtin IS 'whether it came with the extension';
COMMENT ON COLUMN clip_models.is_default IS 'whether pgclip.model names it, or it is the built-in one and nothing does';
GRANT SELECT ON clip_models TO PUBLIC;
