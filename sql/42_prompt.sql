-- Prompt enhancement: domains of queries as rows, and what is made of a query by them.

CREATE TABLE clip_templates (
    domain text NOT NULL CHECK (domain <> ''),
    words text[] NOT NULL DEFAULT '{}'
        CHECK (CASE WHEN array_ndims(words) > 1 THEN false
                    ELSE array_position(words, NULL) IS NULL END),
    templates text[] NOT NULL DEFAULT '{"{}"}'
        CHECK (CASE WHEN array_ndims(templates) > 1 THEN false
                    ELSE array_position(templates, NULL) IS NULL END),
    strip_full_stop boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    builtin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (domain, builtin)
);
COMMENT ON TABLE clip_templates IS
    'domains of queries; a row of yours stands in for the built-in row of the same domain';
COMMENT ON COLUMN clip_templates.domain IS 'name of the domain, as domain => takes it';
COMMENT ON COLUMN clip_templates.words IS
    'words and phrases that speak for the domain; "=Mini" matches in this case only, "!bus stop" takes its words out of the running';
COMMENT ON COLUMN clip_templates.templates IS
    'prompts; {} stands for the query, and several are averaged';
COMMENT ON COLUMN clip_templates.strip_full_stop IS
    'whether the query loses surrounding blanks and its closing full stop';
COMMENT ON COLUMN clip_templates.enabled IS 'false switches the domain off';
COMMENT ON COLUMN clip_templates.builtin IS
    'true for rows that came with the extension and are not part of a dump';

CREATE FUNCTION clip_builtin_templates(
    OUT domain text,
    OUT words text[],
    OUT templates text[],
    OUT strip_full_stop boolean
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'clip_builtin_templates_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 2;
COMMENT ON FUNCTION clip_builtin_templates() IS 'the built-in rows of clip_templates';

INSERT INTO clip_templates (domain, words, templates, strip_full_stop, builtin)
    SELECT domain, words, templates, strip_full_stop, true FROM clip_builtin_templates();

-- Built-in rows stay as they are, for the next update of the extension and outside of dumps: a
-- change to one becomes a row of the user's own, which stands in for it.
CREATE FUNCTION clip_templates_guard() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.builtin THEN
            RAISE EXCEPTION 'domain "%" belongs to the extension', OLD.domain
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'UPDATE clip_templates SET enabled = false switches it off.';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.builtin THEN
        RAISE EXCEPTION 'built-in domains come with the extension'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Leave the column builtin out.';
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.builtin THEN
        EXECUTE format(
            'INSERT INTO %I.clip_templates (domain, words, templates, strip_full_stop, enabled) '
            'VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA)
            USING NEW.domain, NEW.words, NEW.templates, NEW.strip_full_stop, NEW.enabled;
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.builtin THEN
        NEW.builtin := false;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION clip_templates_guard() IS 'keeps the built-in rows of clip_templates as they are';
-- As the trigger of somebody's own table it would write theirs with the rights of the owner.
REVOKE ALL ON FUNCTION clip_templates_guard() FROM PUBLIC;

CREATE TRIGGER clip_templates_guard BEFORE INSERT OR UPDATE OR DELETE ON clip_templates
    FOR EACH ROW EXECUTE FUNCTION clip_templates_guard();

REVOKE ALL ON clip_templates FROM PUBLIC;
GRANT SELECT ON clip_templates TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_templates', 'WHERE NOT builtin');

CREATE TYPE enhanced_prompt AS (domain text, matched text[], prompts text[]);
COMMENT ON TYPE enhanced_prompt IS 'what prompt enhancement decides about a query';

CREATE FUNCTION enhance_prompt(query text, domain text DEFAULT NULL) RETURNS SETOF enhanced_prompt
    AS 'MODULE_PATHNAME', 'enhance_prompt_wrapper' LANGUAGE c STABLE PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION enhance_prompt(text, text) IS
    'the domain of a query, the words that decide it, and the prompts that a search uses';

CREATE FUNCTION clip_query(
    query text,
    model text DEFAULT NULL,
    domain text DEFAULT NULL,
    enhance boolean DEFAULT true
) RETURNS embedding
    AS 'MODULE_PATHNAME', 'clip_query_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION clip_query(text, text, text, boolean) IS
    'unit-length embedding of a query after prompt enhancement, for ORDER BY embedding <=> …';
