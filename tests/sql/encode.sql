-- encode_image(s), encode_text(s) and clip_query: what comes back, NULLs, bad input. Nothing here
-- depends on the model's numbers.
\set base `base64 -w0 "$ROOT/crates/clip/tests/golden/images/base.jpg"`
\set png `base64 -w0 "$ROOT/crates/clip/tests/golden/images/s2_200x100.png"`
\set webp `base64 -w0 "$ROOT/crates/clip/tests/golden/images/lossy.webp"`
\set gif `base64 -w0 "$ROOT/crates/clip/tests/golden/images/animated.gif"`
\set bmp `base64 -w0 "$ROOT/crates/clip/tests/golden/images/rgb.bmp"`
\set tiff `base64 -w0 "$ROOT/crates/clip/tests/golden/images/rgb.tif"`
CREATE TABLE pictures (name text PRIMARY KEY, image bytea);
INSERT INTO pictures VALUES
    ('jpeg', decode(:'base', 'base64')), ('png', decode(:'png', 'base64')),
    ('webp', decode(:'webp', 'base64')), ('gif', decode(:'gif', 'base64')),
    ('bmp', decode(:'bmp', 'base64')), ('tiff', decode(:'tiff', 'base64'));

-- Each format has an embedding of the model's dimensions and of unit length.
SELECT p.name, dims(e) = m.dimensions AS dims, abs(norm(e) - 1) < 1e-3 AS unit
FROM pictures AS p, encode_image(p.image) AS e, clip_models AS m WHERE m.is_default ORDER BY 1;
SELECT dims(e) = m.dimensions AS dims, abs(norm(e) - 1) < 1e-3 AS unit
FROM encode_text('a red car') AS e, clip_models AS m WHERE m.is_default;

-- Together or one by one is the same; NULL stays NULL, at its place.
SELECT cardinality(e), e[2] IS NULL AS null_stays,
       e[1] <=> encode_image(one.image) < 1e-4 AS first, e[3] <=> encode_image(two.image) < 1e-4 AS third
FROM pictures AS one, pictures AS two, encode_images(ARRAY[one.image, NULL, two.image]) AS e
WHERE one.name = 'jpeg' AND two.name = 'png';
SELECT cardinality(e), e[2] IS NULL AS null_stays, e[3] <=> encode_text('two') < 1e-4 AS third
FROM encode_texts(ARRAY['one', NULL, 'two']) AS e;
SELECT encode_images('{}'), encode_texts('{}'), encode_images('{NULL}'), encode_texts('{NULL,NULL}');
SELECT encode_image(NULL), encode_text(NULL), encode_images(NULL), encode_texts(NULL), clip_query(NULL);
SELECT encode_image(NULL, 'none'), encode_text('', NULL) IS NOT NULL AS empty_text;

-- More than one request's worth.
SELECT cardinality(e), (SELECT max(x <=> e[1]) < 1e-4 FROM unnest(e) AS x) AS same
FROM (SELECT encode_images(array_agg(image)) AS e FROM pictures, generate_series(1, 150)
      WHERE name = 'png') AS s;
SELECT cardinality(e), e[600] <=> encode_text('car number 600') < 1e-4 AS last
FROM (SELECT encode_texts(array_agg('car number ' || i)) AS e FROM generate_series(1, 600) AS i) AS s;

-- encode_text takes a text as it is, clip_query enhances it.
SELECT clip_query('A red Toyota sedan.')
       <=> encode_text('A red Toyota sedan image taken by traffic surveillance cameras') < 1e-4 AS enhanced,
       clip_query('A red Toyota sedan.', enhance => false)
       <=> encode_text('A red Toyota sedan.') < 1e-4 AS plain,
       clip_query('A sunset.') <=> encode_text('A sunset.') < 1e-4 AS no_domain,
       clip_query('A sunset.', domain => 'vehicle')
       <=> encode_text('A sunset image taken by traffic surveillance cameras') < 1e-4 AS given;
SELECT clip_query('x', domain => 'none');
-- One call a row, each with its own query.
SELECT t, clip_query(t, enhance => false) <=> encode_text(t) < 1e-4 AS same
FROM unnest(ARRAY['one', 'one', 'two', NULL, 'one']) AS t;

-- Models by name.
SELECT encode_text('x', 'pgclip-traffic-tiny') <=> encode_text('x') < 1e-4 AS named;
SELECT encode_text('x', 'none');
SELECT encode_image('\x00', 'No such model');
SET pgclip.model = 'none';
SELECT encode_text('x');
SELECT encode_text('x', 'pgclip-traffic-tiny') IS NOT NULL AS named;
RESET pgclip.model;

-- Bad input: an error each, and the session goes on.
SELECT encode_image('\x');
SELECT encode_image('this is no image');
SELECT encode_image(substring(image FOR 3000)) FROM pictures WHERE name = 'jpeg';
SELECT encode_image(substring(image FOR 3000)) FROM pictures WHERE name = 'png';
SELECT encode_images(ARRAY[image, NULL, '\x1234']) FROM pictures WHERE name = 'jpeg';
-- Images that are not read were "corrupt", or a TIFF was to be sent by whoever had sent one.
SELECT encode_image('\x0000001c667479706176696600000000'::bytea);
SELECT encode_image('\xffd8ffc0000b0c000100010101110000'::bytea);
SELECT encode_image('\x49492a000800000004000001030001000000010000000101030001000000010000000201030001000000100000000601030001000000010000000000'::bytea);
-- A PNG of 200 kB that says it has 32768 x 32768 pixels.
SELECT encode_image('\x89504e470d0a1a0a0000000d49484452000080000000800008020000004b1e3428'::bytea
                    || decode(repeat('00', 200000), 'hex'));
SELECT encode_text(repeat('x', 100000));
SELECT encode_texts(ARRAY['fine', repeat('word ', 20000)]);
SELECT clip_query(repeat('x', 100000));
SELECT encode_text('still here') IS NOT NULL AS text, encode_image(image) IS NOT NULL AS image
FROM pictures WHERE name = 'jpeg';

-- Cancelled statements leave nothing behind.
SET statement_timeout = '1ms';
SELECT count(encode_image(image)) FROM pictures, generate_series(1, 1000);
RESET statement_timeout;
SELECT encode_image(image) IS NOT NULL AS image FROM pictures WHERE name = 'jpeg';

-- What the planner is told.
SELECT p.proname, p.provolatile, p.proparallel, p.procost, obj_description(p.oid) IS NOT NULL AS comment
FROM pg_proc AS p WHERE p.proname ~ '^(encode_|clip_query)' ORDER BY 1;
SELECT state, pid > 0 AS pid, device, runtime <> '' AS runtime, cardinality(models) > 0 AS models, images > 0 AS images, problem
FROM clip_status;
