-- Registering and dropping models.
SELECT setting || '/pgclip/models/pgclip-traffic-tiny' AS directory FROM pg_config() WHERE name = 'SHAREDIR' \gset
SELECT name, dimensions > 0 AS dimensions, logit_scale > 0 AS logit_scale, length(digest), directory, builtin, is_default
FROM clip_models;

SELECT clip_register_model('second', :'directory');
SELECT name, builtin, is_default, directory = :'directory' AS directory FROM clip_models ORDER BY name;
SELECT count(DISTINCT (digest, dimensions, logit_scale, architecture)) FROM clip_models;
-- Where the models' texts lie is known, though their directories may not tell it.
SELECT name, cardinality(mean_text_embedding) = dimensions AS direction FROM clip_model ORDER BY name;
SELECT encode_text('x', 'second') <=> encode_text('x') < 1e-4 AS same;
SET pgclip.model = 'second';
SELECT name FROM clip_models WHERE is_default;
RESET pgclip.model;

-- Names.
SELECT clip_register_model('second', :'directory');
SELECT clip_register_model('pgclip-traffic-tiny', :'directory');
SELECT clip_register_model('', :'directory');
SELECT clip_register_model('two words', :'directory');
SELECT clip_register_model('../up', :'directory');
SELECT clip_register_model('näme', :'directory');
SELECT clip_register_model(repeat('x', 64), :'directory');
SELECT clip_register_model(E'a\nb', :'directory');
SELECT clip_register_model(NULL, :'directory'), clip_register_model('x', NULL);

-- Directories.
SELECT clip_register_model('third', 'relative/path');
SELECT clip_register_model('third', '');
SELECT clip_register_model('third', '/no/such/directory');
SELECT clip_register_model('third', '/' || repeat('x', 5000));

-- A model whose files are not what its description says.
SELECT current_setting('data_directory') || '/tampered' AS tampered \gset
SELECT format('COPY (SELECT) TO PROGRAM %L', 'cp -r ' || :'directory' || ' tampered && chmod u+w tampered/* && printf x >> tampered/text.onnx') AS command \gset
:command;
DO $$
BEGIN
    PERFORM clip_register_model('tampered', current_setting('data_directory') || '/tampered');
    RAISE NOTICE 'registered';
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '% %', SQLSTATE, regexp_replace(
        replace(SQLERRM, current_setting('data_directory'), 'DATA'), '[0-9a-f]{64}', 'DIGEST', 'g');
END $$;

-- Dropping.
CREATE TABLE photos (id int, image bytea, embedding embedding);
SELECT clip_attach('photos', model => 'second');
SELECT clip_drop_model('second');
SELECT clip_detach('photos');
SELECT clip_drop_model('second');
SELECT clip_drop_model('second');
SELECT clip_drop_model('pgclip-traffic-tiny');
SELECT clip_drop_model(NULL);
SELECT name FROM clip_models ORDER BY 1;
