//! How fast ingest encodes, against the limit: the same pictures through the encoder's own `bench`,
//! which never waits for a database. COPY, INSERT, and INSERT of bare rows that a backfill encodes
//! afterwards are measured in turns with it on the same machine, since only their ratios say
//! something about pgclip. On a machine that is busy with other work the processor's time says more
//! than the wall's: that of the encoder's bench against that of encoder and server together.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::pictures::Picture;

/// What is measured; the first two are parts of the third.
const COLUMNS: [&str; 6] = ["decode", "inference", "bench", "COPY", "INSERT", "backfill"];

/// How fast images went through.
#[derive(Clone, Copy)]
struct Rate {
    /// Images a second.
    wall: f64,
    /// Milliseconds of all processors for an image.
    cpu: f64,
}

/// Measures `rounds` times, and prints each round and the medians.
pub fn run(
    cluster: &Cluster,
    client: &mut Client,
    pictures: &[Picture],
    model: Option<&Path>,
    rounds: usize,
) -> Result<()> {
    let folder = pictures.first().and_then(|picture| picture.file.parent());
    let folder = folder.context("there are no pictures")?;
    let images: Vec<_> =
        pictures.iter().map(|picture| fs::read(&picture.file)).collect::<Result<_, _>>()?;
    client.batch_execute(
        "CREATE TABLE copied (id bigint PRIMARY KEY, image bytea, embedding embedding);
         CREATE TABLE source (id bigint, image bytea);
         SELECT clip_attach('copied')",
    )?;
    copy(client, "source", &images)?;
    let title: String = COLUMNS.iter().map(|column| format!("{column:>10}")).collect();
    println!("                       {title}   COPY INSERT backfill, of bench");
    let mut measured: Vec<[Rate; 6]> = Vec::new();
    for round in 0..=rounds {
        let [bench, decode, inference] = limit(cluster, folder, model)?;
        let mut fill =
            |fill: &dyn Fn(&mut Client) -> Result<()>| encoded(cluster, client, images.len(), fill);
        let rates = [
            decode,
            inference,
            bench,
            fill(&|client| copy(client, "copied", &images))?,
            fill(&|client| {
                Ok(client.batch_execute("INSERT INTO copied SELECT id, image FROM source")?)
            })?,
            fill(&|client| {
                Ok([
                    "SELECT clip_detach('copied')",
                    "INSERT INTO copied SELECT id, image FROM source",
                    "SELECT clip_attach('copied')",
                    "CALL clip_backfill('copied')",
                ]
                .iter()
                .try_for_each(|statement| client.batch_execute(statement))?)
            })?,
        ];
        // The first round warms the caches of all.
        if round > 0 {
            print(&format!("round {round}"), &rates);
            measured.push(rates);
        }
    }
    let median = |of: fn(&Rate) -> f64, column: usize| {
        let mut values: Vec<_> = measured.iter().map(|row| of(&row[column])).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let medians = std::array::from_fn(|column| Rate {
        wall: median(|rate| rate.wall, column),
        cpu: median(|rate| rate.cpu, column),
    });
    print("median", &medians);
    Ok(())
}

fn print(what: &str, rates: &[Rate; 6]) {
    let line = |unit: &str, values: [f64; 6], ratio: fn(f64, f64) -> f64| {
        let numbers: String = values.iter().map(|value| format!("{value:>10.2}")).collect();
        let [copy, insert, backfill] = [3, 4, 5].map(|column| ratio(values[column], values[2]));
        println!(
            "    {what:<8} {unit:<10}{numbers}  {copy:>5.3}  {insert:>5.3}    {backfill:>5.3}"
        );
    };
    line("images/s", rates.map(|rate| rate.wall), |ours, bench| ours / bench);
    line("ms of CPU", rates.map(|rate| rate.cpu), |ours, bench| bench / ours);
}

/// `pgclip-encoder bench`: all of it, decoding and resizing alone, inference alone.
fn limit(cluster: &Cluster, folder: &Path, model: Option<&Path>) -> Result<[Rate; 3]> {
    let root = cluster.server().root();
    let builtin = root.join("share/pgclip/models/pgclip-traffic-tiny");
    let output = cluster
        .account()
        .command(cluster.server().program("pgclip-encoder"))
        .arg("bench")
        .arg(model.unwrap_or(&builtin))
        .arg("--images")
        .arg(folder)
        .args(["--seconds", if model.is_some() { "15" } else { "4" }, "--onnxruntime"])
        .arg(root.join("lib/pgclip/libonnxruntime.so"))
        .output()
        .context("pgclip-encoder bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = |line: &str| -> Option<Rate> {
        let line = text.lines().find_map(|found| found.trim_start().strip_prefix(line))?;
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        Some(Rate { wall: numbers.next()?, cpu: numbers.next()? })
    };
    let rates = ["images, in batches", "decode and resize", "inference"].map(rate);
    let [Some(all), Some(decode), Some(inference)] = rates else {
        anyhow::bail!("pgclip-encoder bench: {text}{}", String::from_utf8_lossy(&output.stderr))
    };
    Ok([all, decode, inference])
}

/// Filling the emptied table, each row with an embedding at the end.
fn encoded(
    cluster: &Cluster,
    client: &mut Client,
    images: usize,
    fill: &dyn Fn(&mut Client) -> Result<()>,
) -> Result<Rate> {
    client.batch_execute("TRUNCATE copied")?;
    client.batch_execute("CHECKPOINT")?;
    let (start, cpu) = (Instant::now(), cpu_seconds(cluster));
    fill(client)?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(cluster) - cpu);
    let count = "SELECT count(embedding) FROM copied";
    let found: i64 = client.query_one(count, &[])?.get(0);
    ensure!(found == images as i64, "{found} of {images} pictures were encoded");
    Ok(Rate { wall: images as f64 / wall, cpu: cpu * 1e3 / images as f64 })
}

/// Seconds that the server's processes and the encoder have worked.
fn cpu_seconds(cluster: &Cluster) -> f64 {
    let of = |pid: u32| -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything, the state is the third field.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: f64 =
            fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        // Linux counts in hundredths of a second there, on every machine.
        Some(ticks / 100.0)
    };
    cluster.processes().iter().filter_map(|process| of(process.pid)).sum()
}

fn copy(client: &mut Client, table: &str, images: &[Vec<u8>]) -> Result<()> {
    let sink = client.copy_in(&format!("COPY {table} (id, image) FROM STDIN (FORMAT binary)"))?;
    let mut writer = BinaryCopyInWriter::new(sink, &[Type::INT8, Type::BYTEA]);
    for (id, image) in (0_i64..).zip(images) {
        writer.write(&[&id, image])?;
    }
    writer.finish()?;
    Ok(())
}
