//! A replica answers what the primary does: no function that only reads asks the server for what a
//! standby refuses, such as a transaction's number.

use anyhow::{Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::replica::Replica;
use pgclip_tests::{start, value};

const TABLE: &str = "
    CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding embedding(128), colour text, type text);
    SELECT clip_attach('photos', attributes => 'vehicle:colour,type');
    INSERT INTO photos (id, embedding, colour, type)
    SELECT i, clip_query(colour || ' ' || type), colour, type
    FROM (VALUES (1, 'red', 'Sedan'), (2, 'white', 'Bus'), (3, 'blue', 'Truck')) AS v (i, colour, type);
    CREATE INDEX ON photos USING clip_hnsw (embedding);
    CREATE TABLE queries AS SELECT id, 'a ' || colour || ' ' || type AS query FROM photos;
    CREATE TABLE wanted AS SELECT id AS query, id AS hit FROM photos";

const STATEMENTS: &[&str] = &[
    "SELECT clip_query('a red sedan')::text",
    "SELECT string_agg(s::text, ' ') FROM text_search(NULL::photos, 'a white bus') AS s",
    "SELECT string_agg(s::text, ' ')
     FROM text_search(NULL::photos, 'a white bus', attributes => 'soft', rerank => 'adaption') AS s",
    "SELECT string_agg(s::text, ' ')
     FROM text_search(NULL::photos, 'a white bus', attributes => 'hard') AS s",
    "SELECT string_agg(s::text, ' ')
     FROM text_search(NULL::photos, 'a white bus', attributes => 'hard:colour,type') AS s",
    "SELECT string_agg(z::text, ' ')
     FROM photos, zero_shot(embedding, ARRAY['a bus', 'a truck']) AS z",
    "SELECT string_agg(f::text, ' ')
     FROM photos, clip_fill_attributes(embedding, 'vehicle') AS f",
    "SELECT string_agg(e::text, ' ') FROM enhance_prompt('a blue truck') AS e",
    "SELECT string_agg(e::text, ' ') FROM clip_evaluate('queries', 'wanted', 'photos', ARRAY[1]) AS e",
    "SELECT string_agg(m.name, ' ') FROM clip_models AS m",
    "SELECT string_agg(c::text, ' ') FROM clip_columns AS c",
];

#[test]
fn a_replica_answers_as_the_primary_does() -> Result<()> {
    let (cluster, mut primary) = start(&Cluster::builder("replica_search").preload(true))?;
    primary.batch_execute(TABLE)?;
    let replica = Replica::of(&cluster)?;
    let mut standby = replica.connect()?;
    replica.catch_up(&mut primary, &mut standby)?;
    ensure!(value::<bool>(&mut standby, "SELECT pg_is_in_recovery()")?);
    for statement in STATEMENTS {
        let ours: Option<String> = value(&mut primary, statement)?;
        let theirs: Option<String> = value(&mut standby, statement)?;
        ensure!(ours.is_some(), "{statement} found nothing");
        ensure!(ours == theirs, "{statement}: {ours:?}, the replica says {theirs:?}");
    }
    Ok(())
}
