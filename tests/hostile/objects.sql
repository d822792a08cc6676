-- What a role that may create objects in some schemas puts there to have its code run by others:
-- operators and functions whose argument types fit better than the system's, casts of its own types,
-- and domains with checks. Run as that role, once before the extension is there and once after.
-- Everything says in the server's log who ran it.
SET search_path = pg_catalog;

DO $$
DECLARE
    body constant text := $body$BEGIN RAISE WARNING 'HOSTILE code % ran as %', 'of somebody', current_user; RETURN NULL; END$body$;
    places constant text[] := ARRAY['evil', 'ext', 'public'];
    shapes constant text[] := ARRAY['oid', 'regclass', 'regproc', 'regprocedure', 'regtype', 'int2', 'int4', 'int8',
        'text', 'name', '"char"', 'varchar', 'bool', 'jsonb', 'tid', 'float4', 'float8', 'timestamptz', 'bytea',
        'oid[]', 'int2[]', 'text[]', 'int2vector', 'oidvector', 'anyelement', 'ext.embedding'];
    operators constant text[] := ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '+', '-', '*', '->>', '~', '~~', '<=>'];
    -- One type of a declaration for another.
    swaps constant text[] := ARRAY['', '', 'regclass', 'oid', 'oid', 'regclass', 'text', 'name', 'name', 'text',
        'anyelement', 'text', 'anyelement', 'evil.photos', 'anyarray', 'text[]', 'anycompatible', 'text',
        'anycompatiblearray', 'text[]', '"any"', 'text', 'ext.embedding', 'evil.vector', 'text', 'varchar'];
    place text; l text; r text; op text; f record; given text; swap int; made int := 0;
BEGIN
    FOREACH place IN ARRAY places LOOP
        FOREACH l IN ARRAY shapes LOOP
            CONTINUE WHEN to_regtype(l) IS NULL;
            FOREACH r IN ARRAY shapes LOOP
                CONTINUE WHEN to_regtype(r) IS NULL;
                CONTINUE WHEN to_regprocedure(format('%s.hostile(%s,%s)', place, l, r)) IS NOT NULL;
                EXECUTE format('CREATE FUNCTION %s.hostile(%s, %s) RETURNS bool LANGUAGE plpgsql AS %L', place, l, r, body);
                FOREACH op IN ARRAY operators LOOP
                    BEGIN
                        EXECUTE format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %1$s.hostile)', place, op, l, r);
                        made := made + 1;
                    EXCEPTION WHEN duplicate_function THEN NULL;
                    END;
                END LOOP;
            END LOOP;
        END LOOP;
        -- Every function of the extension, and those of the system that SQL of its kind calls.
        FOR f IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS given,
                        array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t), ',') AS types
                   FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                  WHERE n.nspname = 'ext' AND p.prokind IN ('f', 'p', 'a') AND p.proname <> 'hostile'
                     OR n.nspname = 'pg_catalog' AND p.proname = ANY (ARRAY['count', 'format', 'concat', 'concat_ws', 'unnest',
                        'array_agg', 'string_agg', 'row_number', 'md5', 'encode', 'split_part', 'substring', 'regexp_match',
                        'string_to_array', 'array_to_string', 'quote_ident', 'has_table_privilege', 'has_column_privilege',
                        'pg_has_role', 'row_security_active', 'pg_partition_tree', 'pg_partition_ancestors', 'jsonb_build_object',
                        'to_jsonb', 'current_setting', 'clock_timestamp', 'now', 'current_database', 'pg_describe_object',
                        'aclexplode', 'pg_get_userbyid', 'pg_index_column_has_property', 'left', 'bool_and', 'array_ndims',
                        'array_position', 'cardinality', 'octet_length', 'to_regclass', 'to_regtype', 'make_interval',
                        'date_part', 'extract', 'lo_get', 'max', 'min', 'sum', 'avg', 'coalesce', 'gen_random_uuid']) LOOP
            FOR swap IN 0 .. cardinality(swaps) / 2 - 1 LOOP
                given := array_to_string(ARRAY(
                    SELECT CASE WHEN t = swaps[2 * swap + 1] THEN swaps[2 * swap + 2] ELSE t END
                      FROM unnest(string_to_array(f.types, ',')) WITH ORDINALITY AS u (t, place) ORDER BY u.place), ',');
                CONTINUE WHEN swap > 0 AND given = f.types;
                BEGIN
                    EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS text LANGUAGE plpgsql AS %L', place, f.proname, given, body);
                    made := made + 1;
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
            END LOOP;
        END LOOP;
    END LOOP;
    RAISE NOTICE 'hostile objects: %', made;
END
$$;
