-- Prompt enhancement: domains of queries as rows, and what is made of a query by them.

CREATE TABLE clip_templates (
    domain text NOT NULL CHECK (domain OPERATOR(pg_catalog.<>) ''::pg_catalog.text),
    words text[] NOT NULL DEFAULT '{}'
        CHECK (CASE WHEN pg_catalog.array_ndims(words) OPERATOR(pg_catalog.>) 1 THEN false
                    ELSE pg_catalog.array_position(words, NULL::pg_catalog.text) IS NULL END),
    templates text[] NOT NULL DEFAULT '{"{}"}'
        CHECK (CASE WHEN pg_catalog.array_ndims(templates) OPERATOR(pg_catalog.>) 1 THEN false
                    ELSE pg_catalog.array_position(templates, NULL::pg_catalog.text) IS NULL END),
    strip_full_stop boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    builtin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (domain, builtin)
);
COMMENT ON TABLE clip_templates IS
    'domains of queries; a row of yours stands in for the built-in row of the same domain';
COMMENT ON COLUMN clip_templates.domain IS 'name of the domain, as domain => takes it';
COMMENT ON COLUMN clip_templates.words IS
    'words and phrases that speak for the domain: "=Style" in this case only, "mini$" where no noun follows, "!bus stop" takes its words out of the running, "!* key" and "!toy *" any entry of the domain beside these words';
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
    SELECT domain, words, templates, strip_full_stop, true FROM @extschema@.clip_builtin_templates();

-- Built-in rows stay as they are, for the next update of the extension and outside of dumps: a
-- change to one becomes a row of the user's own, which stands in for it. The trigger's arguments are
-- what a row is called, and the column with its name.
CREATE FUNCTION clip_builtin_guard() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'DELETE'::pg_catalog.text THEN
        IF OLD.builtin THEN
            RAISE EXCEPTION '% "%" belongs to the extension', TG_ARGV[0],
                pg_catalog.to_jsonb(OLD) OPERATOR(pg_catalog.->>) TG_ARGV[1]
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = pg_catalog.format('UPDATE %I SET enabled = false switches it off.',
                                               TG_TABLE_NAME);
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT'::pg_catalog.text AND NEW.builtin THEN
        RAISE EXCEPTION 'built-in %s come with the extension', TG_ARGV[0]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Leave the column builtin out.';
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE'::pg_catalog.text AND OLD.builtin THEN
        NEW.builtin := false;
        EXECUTE pg_catalog.format('INSERT INTO %I.%I SELECT ($1).* ON CONFLICT DO NOTHING',
                                  TG_TABLE_SCHEMA, TG_TABLE_NAME) USING NEW;
        RETURN OLD;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE'::pg_catalog.text AND NEW.builtin THEN
        NEW.builtin := false;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION clip_builtin_guard() IS
    'keeps the built-in rows of clip_templates and clip_attributes as they are';
-- As the trigger of somebody's own table it would write theirs with the rights of the owner.
REVOKE ALL ON FUNCTION clip_builtin_guard() FROM PUBLIC;

CREATE TRIGGER clip_builtin_guard BEFORE INSERT OR UPDATE OR DELETE ON clip_templates
    FOR EACH ROW EXECUTE FUNCTION clip_builtin_guard('domain', 'domain');

REVOKE ALL ON clip_templates FROM PUBLIC;
GRANT SELECT ON clip_templates TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_templates', 'WHERE NOT builtin');

-- Attributes: what a sentence may call a thing, and what zero-shot classification may find in a
-- picture.
CREATE TABLE clip_attributes (
    domain text NOT NULL DEFAULT 'vehicle' CHECK (domain OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_]*$'::pg_catalog.text),
    attribute text NOT NULL CHECK (attribute OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_]*$'::pg_catalog.text),
    value text NOT NULL CHECK (value OPERATOR(pg_catalog.<>) ''::pg_catalog.text),
    words text[] NOT NULL DEFAULT '{}'
        CHECK (CASE WHEN pg_catalog.array_ndims(words) OPERATOR(pg_catalog.>) 1 THEN false
                    ELSE pg_catalog.array_position(words, NULL::pg_catalog.text) IS NULL END),
    templates text[] NOT NULL DEFAULT '{"a {}","a photo of a {}"}'
        CHECK (CASE WHEN pg_catalog.array_ndims(templates) OPERATOR(pg_catalog.>) 1
                      OR pg_catalog.cardinality(templates) OPERATOR(pg_catalog.=) 0 THEN false
                    ELSE pg_catalog.array_position(templates, NULL::pg_catalog.text) IS NULL END),
    enabled boolean NOT NULL DEFAULT true,
    builtin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (domain, attribute, value, builtin)
);
COMMENT ON TABLE clip_attributes IS
    'values of attributes, their synonyms and their prompts; a row of yours stands in for the built-in row of the same value';
COMMENT ON COLUMN clip_attributes.domain IS 'the domain of clip_templates whose things have the attribute';
COMMENT ON COLUMN clip_attributes.attribute IS 'colour, type, make, or one of yours';
COMMENT ON COLUMN clip_attributes.value IS 'what attribute columns hold';
COMMENT ON COLUMN clip_attributes.words IS
    'words and phrases for the value in a sentence, written as in clip_templates; none: the value itself';
COMMENT ON COLUMN clip_attributes.templates IS
    'prompts that tell the value from others in a picture; {} stands for the value, and several are averaged';
COMMENT ON COLUMN clip_attributes.enabled IS 'false switches the value off';
COMMENT ON COLUMN clip_attributes.builtin IS
    'true for rows that came with the extension and are not part of a dump';

CREATE FUNCTION clip_builtin_attributes(
    OUT domain text,
    OUT attribute text,
    OUT value text,
    OUT words text[],
    OUT templates text[]
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'clip_builtin_attributes_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 80;
COMMENT ON FUNCTION clip_builtin_attributes() IS 'the built-in rows of clip_attributes';

INSERT INTO clip_attributes (domain, attribute, value, words, templates, builtin)
    SELECT domain, attribute, value, words, templates, true FROM @extschema@.clip_builtin_attributes();

CREATE TRIGGER clip_builtin_guard BEFORE INSERT OR UPDATE OR DELETE ON clip_attributes
    FOR EACH ROW EXECUTE FUNCTION clip_builtin_guard('value', 'value');

REVOKE ALL ON clip_attributes FROM PUBLIC;
GRANT SELECT ON clip_attributes TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.clip_attributes', 'WHERE NOT builtin');

CREATE TYPE enhanced_prompt AS (domain text, matched text[], prompts text[], reason text, attributes jsonb);
COMMENT ON TYPE enhanced_prompt IS 'what prompt enhancement decides about a query';

CREATE FUNCTION enhance_prompt(query text, domain text DEFAULT NULL) RETURNS SETOF enhanced_prompt
    AS 'MODULE_PATHNAME', 'enhance_prompt_wrapper' LANGUAGE c STABLE PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION enhance_prompt(text, text) IS
    'the domain of a query, the words that decide it, the prompts that a search uses, why, and the attributes that the query names';

CREATE FUNCTION clip_query(
    query text,
    model text DEFAULT NULL,
    domain text DEFAULT NULL,
    enhance boolean DEFAULT true,
    language text DEFAULT NULL
) RETURNS embedding
    AS 'MODULE_PATHNAME', 'clip_query_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION clip_query(text, text, text, boolean, text) IS
    'unit-length embedding of a query after prompt enhancement, for ORDER BY embedding <=> …';
