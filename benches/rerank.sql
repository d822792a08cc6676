-- What re-ranking finds on the demo's pictures: `make demo`, then this file through the psql that it
-- names. Queries for colour and type, and for sex and clothes, come from the labels.
\set QUIET on
CREATE TEMP TABLE asked AS
SELECT row_number() OVER () AS id, s.* FROM (
    SELECT 'vehicles' AS about, format('a %s %s', m[1], m[2]) AS sentence, array_agg(id) AS ids
    FROM (SELECT id, regexp_match(label, '^(\w+) .* (SUV|Bus|Microbus|Minivan|Sedan|Truck) ·', 'i') AS m FROM photos) AS p
    WHERE m IS NOT NULL GROUP BY 2
    UNION ALL
    SELECT 'people', format('a %s in a %s top and %s %s', CASE m[1] WHEN 'male' THEN 'man' ELSE 'woman' END, m[2], m[3], m[4]), array_agg(id)
    FROM (SELECT id, regexp_match(label, '^(male|female) .*, (\w+) top.*, (\w+) (trousers|shorts|skirt)') AS m FROM photos) AS p
    WHERE m IS NOT NULL GROUP BY 2 HAVING count(*) >= 2) AS s;
CREATE TEMP TABLE answers AS SELECT id AS query, unnest(ids) AS photo FROM asked;
CREATE TEMP VIEW vehicles AS SELECT id, sentence FROM asked WHERE about = 'vehicles';
CREATE TEMP VIEW people AS SELECT id, sentence FROM asked WHERE about = 'people';
SELECT q AS queries, r AS rerank, k, round(map::numeric, 3) AS map, round(recall::numeric, 3) AS recall, round(mrr::numeric, 3) AS mrr, asked
FROM unnest('{vehicles,people}'::regclass[]) WITH ORDINALITY AS q(q, a),
     unnest('{off,adaption,adaption_weighted_mean,adaption_mean}'::text[]) WITH ORDINALITY AS r(r, b),
     clip_evaluate(q, 'answers', 'photos', '{10}', options => jsonb_build_object('rerank', r))
ORDER BY a, b;
