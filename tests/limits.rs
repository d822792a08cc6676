//! What a user sizes has a bound before it has memory or time, and everything hears an interrupt.
//!
//! `zero_shot` with a label of a megabyte and a template of 100,000 places grew until the kernel killed
//! the backend, and with it every session; `encode_texts` of a million NULLs searched the catalog for
//! five seconds and heard nothing. Here everything is called with more than it takes, and then with the
//! most that it takes under a timeout of 100 ms.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{PHOTOS, sqlstate, start};

const TOO_MUCH: &str = "54000";

/// Far longer than any of these takes to hear of a timeout, on a machine however busy.
const LONG: Duration = Duration::from_secs(15);

#[test]
fn more_than_is_allowed_is_refused_before_it_has_memory() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("limits"))?;
    client.batch_execute(PHOTOS)?;
    client.batch_execute(
        "CREATE TABLE queries AS SELECT 1 AS id, 'a red bus' AS query;
         CREATE TABLE relevance AS SELECT 1 AS query, 1::bigint AS photo",
    )?;
    let backend = cluster.processes().len();
    for statement in [
        "zero_shot(encode_text('a'), ARRAY[repeat('x', 1000000)], repeat('{}', 100000))",
        "zero_shot(encode_text('a'), array_fill('x'::text, ARRAY[10001]), '{}')",
        "zero_shot(encode_text('a'), array_fill('x'::text, ARRAY[5000]), array_fill('{}'::text, ARRAY[3]))",
        "zero_shot(encode_text('a'), ARRAY['x'], array_fill(repeat('{}', 10), ARRAY[10001]))",
        "encode_texts(array_fill(NULL::text, ARRAY[1000000]))",
        "encode_texts(ARRAY[repeat('x', 100000)])",
        "encode_text(repeat('x', 100000000))",
        "encode_text('a', repeat('m', 100000000))",
        "encode_images(array_fill(NULL::bytea, ARRAY[1000000]))",
        "encode_image(repeat('x', 200000000)::bytea)",
        "enhance_prompt(repeat('a red car ', 1000000))",
        "enhance_prompt('a red car', repeat('x', 1000000))",
        "clip_query(repeat('a red car ', 1000000))",
        "clip_query('a red car', domain => repeat('x', 1000000))",
        "clip_fill_attributes(encode_text('a'), repeat('x', 1000000))",
        "text_search(NULL::photos, repeat('a red car ', 1000000))",
        "text_search(NULL::photos, 'a', embedding_column => repeat('x', 1000000))",
        "text_search(NULL::photos, 'a', rerank => repeat('x', 1000000))",
        "text_search(NULL::photos, 'a', attributes => repeat('x', 1000000))",
        "text_search(NULL::photos, 'a', filter => jsonb_build_object('camera', repeat('x', 2000000)))",
        "text_search(NULL::photos, 'a', liked => array_fill(encode_text('a'), ARRAY[1001]))",
        "image_search(NULL::photos, repeat('x', 200000000)::bytea)",
        "clip_evaluate('queries', 'relevance', 'photos', options => jsonb_build_object('model', repeat('x', 2000000)))",
        "clip_rerank(array_fill('[1]'::embedding, ARRAY[501]), array_fill(1::real, ARRAY[501]))",
        "clip_attach('photos', image => repeat('x', 1000000))",
        "clip_attach('photos', attributes => repeat('x', 1000000))",
        "clip_register_root('r', '/usr', array_fill('postgres'::regrole, ARRAY[1001]))",
        "dims(('[' || repeat('0', 100000000) || ']')::embedding)",
        "dims(array_fill(1::int, ARRAY[1000000])::embedding)",
        "dims(array_fill(1::float8, ARRAY[1000000])::embedding)",
        "dims(array_fill(1::numeric, ARRAY[100000])::embedding)",
    ] {
        let result = client.batch_execute(&format!("SELECT * FROM {statement}"));
        if let Err(error) = &result
            && let Some(told) = error.as_db_error()
        {
            // A message is for people: it shows no megabytes.
            ensure!(told.message().len() < 1000, "{statement}: {} bytes", told.message().len());
        }
        assert_eq!(sqlstate(result), TOO_MUCH, "{statement}");
    }
    // Templates that together make too much of one query.
    client.batch_execute(
        "INSERT INTO clip_templates (domain, words, templates) VALUES ('boat', '{boat}', array_fill(repeat('{}', 1000), ARRAY[2]))",
    )?;
    let query = format!("SELECT clip_query('a boat {}')", "x".repeat(20_000));
    assert_eq!(sqlstate(client.batch_execute(&query)), TOO_MUCH);
    assert!(cluster.processes().len() >= backend, "a backend is gone");
    Ok(())
}

#[test]
fn the_most_that_is_allowed_hears_a_timeout() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("timeouts"))?;
    client.batch_execute(PHOTOS)?;
    // What is given is made beforehand, and the encoder and its model are there.
    client.batch_execute(
        "SELECT encode_text('a');
         CREATE TABLE wide AS SELECT (SELECT array_agg(sin(i * d)) FROM generate_series(1, 16000) AS d)::real[]::embedding AS e
             FROM generate_series(1, 500) AS i;
         CREATE TABLE given AS SELECT
             (SELECT array_agg('label ' || i) FROM generate_series(1, 10000) AS i) AS labels,
             (SELECT array_agg('text ' || i) FROM generate_series(1, 100000) AS i) AS texts,
             array_fill(NULL::text, ARRAY[100000]) AS nulls,
             array_fill('\\x00'::bytea, ARRAY[100000]) AS images,
             (SELECT array_agg(e) FROM wide) AS embeddings,
             array_fill(0.5::real, ARRAY[500]) AS scores,
             repeat('a red car with a man and ', 1300) AS sentence,
             jsonb_build_object('camera', (SELECT jsonb_agg(i::text) FROM generate_series(1, 90000) AS i)) AS filter,
             '[' || repeat(repeat('0', 900) || '1,', 15999) || '1]' AS literal;
         INSERT INTO photos (id, camera, embedding) SELECT i, i::text, encode_text('a') FROM generate_series(1, 5000) AS i;
         CREATE TABLE queries AS SELECT i AS id, 'a red bus ' || i AS query FROM generate_series(1, 5000) AS i;
         CREATE TABLE relevance AS SELECT i AS query, i::bigint AS photo FROM generate_series(1, 5000) AS i;
         SET statement_timeout = '100ms'",
    )?;
    for statement in [
        "SELECT count(*) FROM given, zero_shot(encode_text('a'), labels, 'a {} car')",
        "SELECT cardinality(encode_texts(texts)) FROM given",
        "SELECT cardinality(encode_texts(nulls)) FROM given",
        "SELECT cardinality(encode_images(images)) FROM given",
        "SELECT cardinality(clip_rerank(embeddings, scores)) FROM given",
        "SELECT count(*) FROM given, enhance_prompt(sentence)",
        "SELECT dims(clip_query(sentence)) FROM given",
        "SELECT count(*) FROM given, text_search(NULL::photos, sentence, k => 100000, filter => filter, rerank => 'adaption', candidates => 500)",
        "SELECT dims(literal::embedding) FROM given",
        "SELECT count(*) FROM clip_evaluate('queries', 'relevance', 'photos', '{1000}')",
        "SELECT avg(a.e <=> b.e) FROM wide AS a, wide AS b",
        "CREATE INDEX ON wide USING clip_hnsw ((e::embedding(16000)) embedding_cosine_ops) WITH (m = 4)",
        "CREATE INDEX ON photos USING clip_hnsw (embedding)",
        "CALL clip_backfill('photos')",
    ] {
        let begun = Instant::now();
        let result = client.batch_execute(statement);
        let state = sqlstate(result);
        // Done in time, or ended by the timeout; of pictures that are none, that; of a table that is
        // not attached, that.
        let known = ["no error", "57014", "22P03", "42704", "54000"];
        ensure!(known.contains(&state.as_str()), "{statement}: {state}");
        ensure!(begun.elapsed() < LONG, "{statement} took {:?}", begun.elapsed());
        println!("{:>6} ms  {state}  {statement}", begun.elapsed().as_millis());
    }
    client.batch_execute("SET statement_timeout = 0; SELECT encode_text('the session lives')")?;
    Ok(())
}
