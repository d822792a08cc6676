//! Partitioned tables: attached as one, with partitions present and future, and rows that go
//! straight into a partition.

use anyhow::Result;
use pgclip_cluster::Cluster;
use pgclip_tests::{copy, pictures, start, value};
use postgres::Client;

const MISSING: &str = "SELECT count(*) FROM photos WHERE embedding IS NULL AND image IS NOT NULL";

fn partitioned(name: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) = start(&Cluster::builder(name))?;
    client.batch_execute(
        "CREATE TABLE photos (id bigint, camera text, image bytea, embedding embedding)
             PARTITION BY RANGE (id);
         CREATE TABLE photos_1 PARTITION OF photos FOR VALUES FROM (0) TO (10);
         -- Columns in another order.
         CREATE TABLE photos_2 (embedding embedding, image bytea, camera text, id bigint);
         ALTER TABLE photos ATTACH PARTITION photos_2 FOR VALUES FROM (10) TO (20);
         SELECT clip_attach('photos')",
    )?;
    Ok((cluster, client))
}

#[test]
fn copy_fills_all_partitions() -> Result<()> {
    let (_cluster, mut client) = partitioned("partitions")?;
    assert_eq!(copy(&mut client, "photos", &pictures(19))?, 19);
    assert_eq!(value::<i64>(&mut client, MISSING)?, 0);
    let far = "SELECT max(embedding <=> encode_image(image)) FROM photos";
    assert!(value::<f64>(&mut client, far)? < 1e-3);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM photos_2")?, 10);
    let found = "SELECT count(*) FROM text_search(NULL::photos, 'a red bus', k => 15)";
    assert_eq!(value::<i64>(&mut client, found)?, 15);
    Ok(())
}

#[test]
fn later_partitions_and_rows_straight_into_one_are_encoded() -> Result<()> {
    let (_cluster, mut client) = partitioned("straight")?;
    client
        .batch_execute("CREATE TABLE photos_3 PARTITION OF photos FOR VALUES FROM (20) TO (30)")?;
    let files = pictures(3);
    for (table, id) in [("photos_1", 5_i64), ("photos_2", 15), ("photos_3", 25)] {
        let insert = format!("INSERT INTO {table} (id, image) VALUES ($1, $2)");
        client.execute(&insert, &[&id, &files[0]])?;
    }
    assert_eq!(value::<i64>(&mut client, MISSING)?, 0);

    // An update that moves the row to another partition.
    client.execute("UPDATE photos SET id = 26, image = $1 WHERE id = 5", &[&files[1]])?;
    client.execute("UPDATE photos_2 SET image = $1", &[&files[2]])?;
    let far = "SELECT max(embedding <=> encode_image(image)) FROM photos";
    assert!(value::<f64>(&mut client, far)? < 1e-3);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM photos_3")?, 2);
    Ok(())
}

#[test]
fn detaching_the_table_detaches_its_partitions() -> Result<()> {
    let (_cluster, mut client) = partitioned("detached")?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_columns")?, 1);
    client.batch_execute("SELECT clip_detach('photos')")?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_columns")?, 0);
    copy(&mut client, "photos", &pictures(19))?;
    assert_eq!(value::<i64>(&mut client, MISSING)?, 19);
    Ok(())
}
