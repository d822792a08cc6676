-- What going by columns of attributes finds on the demo's pictures: `make demo`, then this file through
-- the psql that it names. Queries for colour and type come from the labels, as do the columns "told".
\set QUIET on
CREATE TEMP TABLE seen AS
SELECT p.id, p.embedding, lower(m[1]) AS told_colour, t.value AS told_type, NULL::text AS colour, NULL::text AS kind
FROM photos AS p, regexp_match(label, '^(\w+) .* (SUV|Bus|Microbus|Minivan|Sedan|Truck) ·', 'i') AS m
LEFT JOIN clip_attributes AS t ON t.attribute = 'type' AND lower(t.value) = lower(m[2]);
UPDATE seen SET (colour, kind) = (SELECT max(value) FILTER (WHERE attribute = 'colour'), max(value) FILTER (WHERE attribute = 'type') FROM clip_fill_attributes(embedding));
ALTER TABLE seen ADD PRIMARY KEY (id);
SELECT count(*) AS vehicles, round(avg((colour = told_colour)::int), 4) AS colour_right, round(avg((kind = told_type)::int), 4) AS type_right FROM seen WHERE told_type IS NOT NULL;
CREATE TEMP TABLE asked AS SELECT row_number() OVER () AS id, format('a %s %s', told_colour, told_type) AS sentence, array_agg(id) AS ids FROM seen WHERE told_type IS NOT NULL GROUP BY 2;
CREATE TEMP TABLE answers AS SELECT id AS query, unnest(ids) AS photo FROM asked;
SELECT columns, a AS attributes, r AS rerank, k, round(map::numeric, 3) AS map, round(recall::numeric, 3) AS recall, asked
FROM (VALUES ('zero-shot', ':colour,type=kind'), ('told', ':colour=told_colour,type=told_type')) AS c (columns, list),
     unnest('{off,soft,hard}'::text[]) WITH ORDINALITY AS a (a, o), unnest('{off,adaption}'::text[]) AS r,
     clip_evaluate('asked', 'answers', 'seen', '{10}', options => jsonb_build_object('attributes', CASE a WHEN 'off' THEN a ELSE a || list END, 'rerank', r))
ORDER BY columns DESC, o, r DESC;
