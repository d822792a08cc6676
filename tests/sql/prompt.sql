-- Prompt enhancement and its domains.
SELECT * FROM enhance_prompt('A red Toyota sedan.');
SELECT * FROM enhance_prompt('A female pedestrian with a backpack. She is in a tee shirt.');
SELECT * FROM enhance_prompt('A sunset over the sea. ');
SELECT * FROM enhance_prompt('a man beside a white van');
SELECT * FROM enhance_prompt('a white van beside a man');
SELECT * FROM enhance_prompt('an empty bus stop');
SELECT * FROM enhance_prompt('red');
SELECT * FROM enhance_prompt('');
SELECT * FROM enhance_prompt(NULL);
SELECT * FROM enhance_prompt('a barn.', 'vehicle');
SELECT * FROM enhance_prompt('a red car.', domain => 'person');
SELECT * FROM enhance_prompt('a red car', 'boats');

-- The built-in rows.
SELECT domain, cardinality(words) > 50 AS words, templates, strip_full_stop, enabled, builtin FROM clip_templates ORDER BY 1;

-- A new domain works at the next statement; several templates are averaged.
INSERT INTO clip_templates (domain, words, templates)
    VALUES ('boats', '{boat,ship,fire boat}', '{"{} at sea","aerial photo of {}"}');
SELECT * FROM enhance_prompt('a red fire boat');
SELECT abs(norm(clip_query('a red boat')) - 1) < 1e-3 AS unit,
       clip_query('a red boat') <=> l2_normalize(encode_text('a red boat at sea') + encode_text('aerial photo of a red boat')) < 1e-3 AS mean;

-- A change to a built-in row becomes a row of the user's, which stands in for it.
UPDATE clip_templates SET words = words || ARRAY['tuk-tuk'] WHERE domain = 'vehicle';
UPDATE clip_templates SET words = words || ARRAY['bullock cart'] WHERE domain = 'vehicle';
SELECT domain, builtin, words @> '{tuk-tuk,bullock cart}' AS mine, enabled FROM clip_templates ORDER BY 1, 2;
SELECT domain, matched FROM enhance_prompt('two Tuk-Tuks and a bullock cart');
UPDATE clip_templates SET enabled = false WHERE domain = 'vehicle';
SELECT * FROM enhance_prompt('a red car.');
DELETE FROM clip_templates WHERE domain = 'vehicle' AND NOT builtin;
SELECT * FROM enhance_prompt('a red car.');

-- What is refused.
DELETE FROM clip_templates WHERE domain = 'person';
INSERT INTO clip_templates (domain, builtin) VALUES ('mine', true);
INSERT INTO clip_templates (domain) VALUES ('');
INSERT INTO clip_templates (domain) VALUES (NULL);
INSERT INTO clip_templates (domain, words) VALUES ('mine', '{a,NULL}');
INSERT INTO clip_templates (domain, words) VALUES ('mine', '{{a},{b}}');
INSERT INTO clip_templates (domain, templates) VALUES ('mine', '{NULL}');
INSERT INTO clip_templates (domain) VALUES ('boats');

-- A call site that outlives a statement sees what has changed: templates, and the default model.
DELETE FROM clip_templates WHERE NOT builtin;
CREATE FUNCTION changes() RETURNS TABLE (changed text, answer text) LANGUAGE plpgsql AS $$
DECLARE
    first embedding;
    query embedding;
BEGIN
    FOR i IN 1..3 LOOP
        changed := (ARRAY['nothing', 'templates', 'model'])[i];
        IF changed = 'templates' THEN
            INSERT INTO clip_templates (domain, words, templates) VALUES ('vehicle', '{car}', '{"the moon"}');
        ELSIF changed = 'model' THEN
            PERFORM set_config('pgclip.model', 'nonesuch', true);
        END IF;
        BEGIN
            query := clip_query('a red car');
            first := coalesce(first, query);
            answer := CASE WHEN query = first THEN 'the same' ELSE 'another' END;
        EXCEPTION WHEN OTHERS THEN
            answer := sqlerrm;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM changes();
