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

-- What is named beside the head of a query decides nothing, and the reason is told.
SELECT domain, matched, reason FROM unnest(ARRAY['a red house with a car in front', 'mini skirt', 'Mini skirt',
    'woman in a red coat', 'a toy car', 'no people', 'a photo of a car', 'next to a bus, a man']) WITH ORDINALITY AS q (q, n),
    enhance_prompt(q) ORDER BY n;

-- Attributes that describe what the query is about, by their words.
SELECT q, attributes FROM unnest(ARRAY['a gray van', 'a red Toyota sedan', 'A red or white VW', 'a blue van beside a red car',
    'a car that is silver', 'a Toyota or a Honda', 'a car or a red truck', 'a woman in a red coat', 'red', 'a car'])
    WITH ORDINALITY AS q (q, n), enhance_prompt(q) ORDER BY n;
SELECT attributes FROM enhance_prompt('red', 'vehicle');

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

-- The same for the values of attributes, which other languages and domains may have too.
SELECT attribute, count(*), min(value), bool_and(builtin) FROM clip_attributes GROUP BY 1 ORDER BY 1;
INSERT INTO clip_attributes (attribute, value, words) VALUES ('colour', 'beige', '{beige,sand-coloured,"couleur sable"}');
UPDATE clip_attributes SET words = words || ARRAY['slate'] WHERE value = 'grey';
UPDATE clip_attributes SET enabled = false WHERE value = 'red';
INSERT INTO clip_attributes (domain, attribute, value) VALUES ('boats', 'rig', 'sloop');
SELECT q, attributes FROM unnest(ARRAY['a sand-coloured van', 'a slate van', 'a red car', 'a sloop, a boat', 'a boat that is a sloop'])
    WITH ORDINALITY AS q (q, n), enhance_prompt(q) ORDER BY n;
SELECT domain, attribute, value, words, enabled, builtin FROM clip_attributes
 WHERE value IN ('grey', 'red', 'beige', 'sloop') ORDER BY 3, 6;
DELETE FROM clip_attributes WHERE NOT builtin;
SELECT attributes FROM enhance_prompt('a red car');

-- What is refused.
DELETE FROM clip_attributes WHERE value = 'grey';
INSERT INTO clip_attributes (attribute, value, builtin) VALUES ('colour', 'beige', true);
INSERT INTO clip_attributes (attribute, value) VALUES ('Colour', 'beige');
INSERT INTO clip_attributes (domain, attribute, value) VALUES ('a,b', 'colour', 'beige');
INSERT INTO clip_attributes (attribute, value) VALUES ('colour', '');
INSERT INTO clip_attributes (attribute, value, templates) VALUES ('colour', 'beige', '{}');
INSERT INTO clip_attributes (attribute, value, words) VALUES ('colour', 'beige', '{NULL}');
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
