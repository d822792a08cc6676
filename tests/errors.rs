//! `clip_errors` shows the rows that have no embedding because of their image, and no others.
//!
//! What it said of a row stayed when the row was deleted, truncated, moved to another partition or mended by
//! hand: whoever counted on it looked for rows that were not there.

use anyhow::Result;
use pgclip_cluster::Cluster;
use pgclip_tests::{pictures, sqlstate, start, value};
use postgres::Client;

/// Tables and keys of the entries.
fn told(client: &mut Client) -> Result<String> {
    value(
        client,
        "SELECT coalesce(string_agg(relation || ' ' || (key->>'id'), ', ' ORDER BY relation::text, key), '')
         FROM clip_errors",
    )
}

#[test]
fn entries_go_with_their_rows() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("errors"))?;
    client.batch_execute(
        "CREATE TABLE photos (id bigint PRIMARY KEY, image bytea, embedding embedding);
         CREATE TABLE parts (id bigint PRIMARY KEY, image bytea, embedding embedding) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (100) TO (200);
         SELECT clip_attach('photos', on_error => 'null'), clip_attach('parts', on_error => 'null');
         INSERT INTO photos SELECT n, 'no image' FROM generate_series(1, 6) AS n;
         INSERT INTO parts SELECT n, 'no image' FROM generate_series(1, 3) AS n",
    )?;
    let all = "photos 1, photos 2, photos 3, photos 4, photos 5, photos 6";
    assert_eq!(told(&mut client)?, format!("low 1, low 2, low 3, {all}"));
    client.batch_execute(
        "DELETE FROM photos WHERE id = 1;
         UPDATE photos SET image = NULL WHERE id = 2;
         UPDATE photos SET embedding = encode_text('x') WHERE id = 3;
         UPDATE photos SET id = 40 WHERE id = 4;
         UPDATE parts SET id = 101 WHERE id = 1;
         DELETE FROM parts WHERE id = 2",
    )?;
    assert_eq!(told(&mut client)?, "high 101, low 3, photos 5, photos 6");
    client.batch_execute("TRUNCATE low")?;
    client.batch_execute("BEGIN; DELETE FROM photos WHERE id = 5")?;
    assert_eq!(told(&mut client)?, "high 101, photos 6");
    client.batch_execute("ROLLBACK; ALTER TABLE parts DETACH PARTITION high")?;
    assert_eq!(told(&mut client)?, "photos 5, photos 6");
    // Where it cannot be told, all are shown: a locked table, a key that is another one now.
    let mut other = cluster.connect()?;
    other.batch_execute("BEGIN; LOCK TABLE photos")?;
    assert_eq!(told(&mut client)?, all);
    other.batch_execute("ROLLBACK")?;
    client.batch_execute("ALTER TABLE photos ALTER id TYPE timestamptz USING to_timestamp(id)")?;
    assert_eq!(told(&mut client)?, all);
    client
        .batch_execute("ALTER TABLE photos ALTER id TYPE int USING extract(epoch FROM id)::int")?;
    assert_eq!(told(&mut client)?, "photos 5, photos 6");
    // The backfill takes out what is gone, and tries the row that has another key. Whoever attaches takes out
    // what is of tables that are gone.
    client.batch_execute("CALL clip_backfill('photos')")?;
    let kept = "SELECT count(*) FROM clip_error WHERE relation = 'photos'::regclass";
    assert_eq!(value::<i64>(&mut client, kept)?, 3);
    client.execute("UPDATE photos SET image = $1 WHERE id = 5", &[&pictures(1)[0]])?;
    assert_eq!(told(&mut client)?, "photos 6, photos 40");
    client.batch_execute("DROP TABLE photos, parts, high")?;
    assert_eq!(told(&mut client)?, "");
    client.batch_execute(
        "CREATE TABLE photos (id bigint PRIMARY KEY, image bytea, embedding embedding);
         SELECT clip_attach('photos')",
    )?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_error")?, 0);
    Ok(())
}

/// The function behind the view tells nobody which keys a table has that he may not read.
#[test]
fn keys_are_told_to_readers_alone() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("errors_rights"))?;
    client.batch_execute(
        "CREATE TABLE photos (id bigint PRIMARY KEY, image bytea, embedding embedding);
         SELECT clip_attach('photos', on_error => 'null');
         INSERT INTO photos VALUES (1, 'no image');
         CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN; GRANT SELECT ON photos TO reader",
    )?;
    let asks = "SELECT count(*) FROM clip_standing_errors('photos', 'embedding')";
    let mut stranger = cluster.connect_as("stranger", "postgres")?;
    let mut reader = cluster.connect_as("reader", "postgres")?;
    assert_eq!(value::<i64>(&mut stranger, asks)?, 0);
    assert_eq!(value::<i64>(&mut reader, asks)?, 1);
    assert_eq!(told(&mut reader)?, "photos 1");
    assert_eq!(told(&mut stranger)?, "");
    // Anything at all as a key, and anything as a table.
    client.batch_execute(
        r#"INSERT INTO clip_error SELECT 'photos', 'embedding', k::jsonb, 'odd', 'XX000', 'm'
           FROM unnest(ARRAY['"x"', '[]', 'null', '[1]', '{}', '{"id": null}', '{"id": []}', '{"id": "x"}']) AS k"#,
    )?;
    let reasons = "SELECT count(*) FROM clip_errors";
    assert_eq!(value::<i64>(&mut reader, reasons)?, 9);
    client.batch_execute("DELETE FROM clip_error WHERE reason = 'odd'")?;
    for table in ["0", "4294967295", "'pg_class'::regclass", "'clip_error_key'::regclass"] {
        let asked = format!("SELECT clip_standing_errors({table}::oid::regclass, '')");
        assert_eq!(sqlstate(reader.batch_execute(&asked)), "no error", "{table}");
    }
    // More than are looked at at once, in little time.
    client.batch_execute(
        "INSERT INTO photos SELECT n, 'no image' FROM generate_series(2, 5000) AS n;
         DELETE FROM photos WHERE id % 2 = 0",
    )?;
    assert_eq!(value::<i64>(&mut reader, reasons)?, 2500);
    let at_once = "SELECT count(DISTINCT key) FROM clip_errors WHERE relation = 'photos'::regclass";
    assert_eq!(value::<i64>(&mut reader, at_once)?, 2500);
    client.batch_execute("CALL clip_backfill('photos')")?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_error")?, 2500);
    Ok(())
}
