//! How fast COPY encodes, against the limit: the same pictures through the encoder's own `bench`,
//! which never waits for a database. Both are measured in turns on the same machine, since only
//! their ratio says something about pgclip.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::pictures::Picture;

/// Measures `rounds` times, and prints each round and the medians.
pub fn run(
    cluster: &Cluster,
    client: &mut Client,
    pictures: &[Picture],
    rounds: usize,
) -> Result<()> {
    let folder = pictures.first().and_then(|picture| picture.file.parent());
    let folder = folder.context("there are no pictures")?;
    let images: Vec<_> =
        pictures.iter().map(|picture| fs::read(&picture.file)).collect::<Result<_, _>>()?;
    client.batch_execute("CREATE TABLE copied (id bigint, image bytea, embedding embedding)")?;
    client.batch_execute("SELECT clip_attach('copied')")?;
    println!("    round   bench images/s   COPY images/s   ratio");
    let mut measured = Vec::new();
    for round in 0..=rounds {
        let limit = limit(cluster, folder)?;
        let copied = copy(client, &images)?;
        // The first round warms the caches of both.
        if round > 0 {
            println!("    {round:>5} {limit:>16.0} {copied:>15.0} {:>7.3}", copied / limit);
            measured.push([limit, copied, copied / limit]);
        }
    }
    let [limit, copied, ratio] = [0, 1, 2].map(|at| median(&measured, at));
    println!("   median {limit:>16.0} {copied:>15.0} {ratio:>7.3}");
    Ok(())
}

/// Images a second of `pgclip-encoder bench` on the built-in model.
fn limit(cluster: &Cluster, folder: &Path) -> Result<f64> {
    let root = cluster.server().root();
    let output = cluster
        .account()
        .command(cluster.server().program("pgclip-encoder"))
        .arg("bench")
        .arg(root.join("share/pgclip/models/pgclip-traffic-tiny"))
        .arg("--images")
        .arg(folder)
        .args(["--seconds", "4", "--onnxruntime"])
        .arg(root.join("lib/pgclip/libonnxruntime.so"))
        .output()
        .context("pgclip-encoder bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("images, in batches"));
    let rate = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    rate.with_context(|| {
        format!("pgclip-encoder bench: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Images a second of one COPY of all pictures, encoding each.
fn copy(client: &mut Client, images: &[Vec<u8>]) -> Result<f64> {
    client.batch_execute("TRUNCATE copied; CHECKPOINT")?;
    let start = Instant::now();
    let sink = client.copy_in("COPY copied (id, image) FROM STDIN (FORMAT binary)")?;
    let mut writer = BinaryCopyInWriter::new(sink, &[Type::INT8, Type::BYTEA]);
    for (id, image) in (0_i64..).zip(images) {
        writer.write(&[&id, image])?;
    }
    writer.finish()?;
    let rate = images.len() as f64 / start.elapsed().as_secs_f64();
    let missing: i64 =
        client.query_one("SELECT count(*) FROM copied WHERE embedding IS NULL", &[])?.get(0);
    ensure!(missing == 0, "{missing} pictures were not encoded");
    Ok(rate)
}

fn median(rows: &[[f64; 3]], column: usize) -> f64 {
    let mut values: Vec<_> = rows.iter().map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
