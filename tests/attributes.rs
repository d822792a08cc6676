//! Columns of attributes over commits: by the worker, through a change of the model, and without
//! asking the encoder for the same texts again and again.

use anyhow::Result;
use pgclip_cluster::Cluster;
use pgclip_tests::{pictures, register_second, start, value};
use postgres::Client;

const TABLE: &str = "CREATE TABLE photos (id bigint PRIMARY KEY, image bytea, embedding embedding,
     colour text, \"Kind, of it\" text)";
const ATTRIBUTES: &str = "vehicle:colour,type=\"Kind, of it\"";

/// Rows whose values are not the likeliest of their embeddings.
fn other(client: &mut Client, model: &str, rows: &str) -> Result<i64> {
    let best = |attribute: &str| {
        format!(
            "(SELECT value FROM clip_fill_attributes(embedding, 'vehicle', '{model}')
              WHERE attribute = '{attribute}')"
        )
    };
    let (colour, kind) = (best("colour"), best("type"));
    let query = format!(
        "SELECT count(*) FROM photos WHERE {rows} AND
         (colour, \"Kind, of it\") IS DISTINCT FROM ({colour}, {kind})"
    );
    value(client, &query)
}

fn insert(client: &mut Client, ids: std::ops::Range<u64>, colour: Option<&str>) -> Result<()> {
    let files = pictures(ids.end);
    for id in ids {
        let row = "INSERT INTO photos (id, image, colour) VALUES ($1, $2, $3)";
        client.execute(row, &[&(id as i64), &files[id as usize], &colour])?;
    }
    Ok(())
}

#[test]
fn the_worker_fills_them_and_another_model_keeps_them() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("attributes"))?;
    register_second(&cluster, &mut client)?;
    client.batch_execute(TABLE)?;
    client.execute(
        "SELECT clip_attach('photos', mode => 'async', attributes => $1)",
        &[&ATTRIBUTES],
    )?;
    let until_empty = |client: &mut Client| {
        cluster.wait_for("an empty queue", || {
            Ok(value::<i64>(client, "SELECT count(*) FROM clip_queue")? == 0)
        })
    };
    insert(&mut client, 0..20, None)?;
    insert(&mut client, 20..25, Some("own"))?;
    until_empty(&mut client)?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(embedding) FROM photos")?, 25);
    assert_eq!(other(&mut client, "pgclip-traffic-tiny", "id < 20")?, 0);
    let own = "SELECT count(*) FROM photos WHERE colour = 'own' AND \"Kind, of it\" IS NOT NULL";
    assert_eq!(value::<i64>(&mut client, own)?, 5);
    // The pictures are of several colours and types, or nothing was tested.
    let several =
        "SELECT count(DISTINCT colour) > 2 AND count(DISTINCT \"Kind, of it\") > 2 FROM photos";
    assert!(value::<bool>(&mut client, several)?);
    // Another image, while the row waits: the later one's values.
    client.batch_execute(
        "UPDATE photos SET image = (SELECT image FROM photos WHERE id = 1) WHERE id = 0",
    )?;
    until_empty(&mut client)?;
    assert_eq!(other(&mut client, "pgclip-traffic-tiny", "id < 20")?, 0);

    let all = "SELECT string_agg(colour || ' ' || \"Kind, of it\", ',' ORDER BY id) FROM photos";
    let before: String = value(&mut client, all)?;
    client.batch_execute("CALL clip_reencode('photos', 'second')")?;
    assert_eq!(value::<String>(&mut client, all)?, before);
    let columns = "SELECT model || ' ' || mode || ' ' || attributes FROM clip_columns";
    let kept = format!("second async {ATTRIBUTES}");
    assert_eq!(value::<String>(&mut client, columns)?, kept);
    insert(&mut client, 30..40, None)?;
    until_empty(&mut client)?;
    assert_eq!(other(&mut client, "second", "id >= 30")?, 0);
    Ok(())
}

#[test]
fn their_texts_are_encoded_once_a_session() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("kept"))?;
    client.batch_execute(TABLE)?;
    client.execute("SELECT clip_attach('photos', attributes => $1)", &[&ATTRIBUTES])?;
    // What the encoder was asked for, answered out of its cache or not.
    let asked = "SELECT texts + cache_hits FROM clip_status";
    insert(&mut client, 0..1, None)?;
    let first: i64 = value(&mut client, asked)?;
    let values = "SELECT sum(cardinality(templates)) FROM clip_attributes";
    assert_eq!(first, value::<i64>(&mut client, values)?);
    insert(&mut client, 1..10, None)?;
    client.batch_execute("SELECT clip_fill_attributes(embedding) FROM photos")?;
    assert_eq!(value::<i64>(&mut client, asked)?, first);
    // Until the values change.
    client.batch_execute("UPDATE clip_attributes SET enabled = false WHERE value = 'red'")?;
    insert(&mut client, 10..11, None)?;
    assert!(value::<i64>(&mut client, asked)? > first);
    Ok(())
}
