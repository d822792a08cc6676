//! A streaming replica: through cycles of inserts, updates, deletes and vacuums its pages of an index
//! are the primary's, byte for byte, and so are its answers. The server itself compares too: with
//! `wal_consistency_checking` a replica stops where the page that it made differs from the one that
//! was logged.

use std::path::Path;

use anyhow::{Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::replica::Replica;
use pgclip_tests::vectors::{
    COSINE, Clusters, Dice, EUCLIDEAN, Each, INNER_PRODUCT, Metric, ensure_sound, fill,
    make_tables, neighbours, recall_at,
};
use pgclip_tests::{start, value};
use postgres::Client;

/// A page without what may differ: where in the log it was last changed, its checksum, and the hole
/// between item pointers and items, which nobody reads.
fn masked(mut page: Vec<u8>) -> Vec<u8> {
    page[..10].fill(0);
    let at = |at: usize| usize::from(u16::from_ne_bytes([page[at], page[at + 1]]));
    let (lower, upper) = (at(12), at(14));
    if lower <= upper && upper <= page.len() {
        page[lower..upper].fill(0);
    }
    page
}

fn pages(client: &mut Client, index: &str) -> Result<Vec<Vec<u8>>> {
    let all = "SELECT get_raw_page($1, block::int) FROM generate_series(0,
        pg_relation_size($1::text::regclass) / 8192 - 1) AS block";
    let rows = client.query(all, &[&index])?;
    Ok(rows.iter().map(|row| masked(row.get(0))).collect())
}

fn ensure_equal_pages(primary: &mut Client, replica: &mut Client, index: &str) -> Result<()> {
    let (ours, theirs) = (pages(primary, index)?, pages(replica, index)?);
    ensure!(ours.len() == theirs.len(), "{} pages, the replica has {}", ours.len(), theirs.len());
    for (block, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let differ = ours.iter().zip(theirs).position(|(a, b)| a != b);
        ensure!(differ.is_none(), "{index}: block {block} differs at byte {differ:?}");
    }
    Ok(())
}

fn cycles(metric: Metric, dims: usize, rows: usize, options: &str) -> Result<()> {
    let builder = Cluster::builder("replica")
        .setting("autovacuum", "off")
        .setting("wal_consistency_checking", "generic");
    let (cluster, mut primary) = start(&builder)?;
    primary.batch_execute("CREATE EXTENSION pageinspect")?;
    let mut clusters = Clusters::new(41, dims, 30);
    make_tables(&mut primary, &mut clusters, rows)?;
    primary.batch_execute("DELETE FROM queries WHERE id > 50")?;
    let create = |name: &str| {
        format!("CREATE INDEX {name} ON t USING clip_hnsw (v {}, f) {options}", metric.class)
    };
    primary.batch_execute(&create("i"))?;
    let replica = Replica::of(&cluster)?;
    let mut client = replica.connect()?;
    let mut dice = Dice::new(42);
    for cycle in 0..5 {
        let next: i64 = value(&mut primary, "SELECT max(id) + 1 FROM t")?;
        let mut new = clusters.take(rows / 5);
        new.extend_from_within(..rows / 25);
        fill(&mut primary, "t", next, &new)?;
        primary.batch_execute(&format!(
            "UPDATE t SET f = f + 1 WHERE id % 9 = {cycle};
             UPDATE t SET v = (SELECT v FROM queries WHERE queries.id = 1 + t.id % 50) WHERE id % 31 = {cycle};
             DELETE FROM t WHERE id % 7 = {cycle}"
        ))?;
        if dice.below(3) > 0 {
            primary.batch_execute("VACUUM t")?;
        }
        match cycle {
            2 => primary.batch_execute("REINDEX INDEX i")?,
            3 => primary.each("SET maintenance_work_mem = '1MB'; REINDEX INDEX i; CHECKPOINT")?,
            _ => (),
        }
        replica.catch_up(&mut primary, &mut client)?;
        ensure_equal_pages(&mut primary, &mut client, "i")?;
        ensure_sound(&mut client, "i")?;
        let condition = if cycle % 2 == 0 { "true" } else { "t.f < 30" };
        let ours = neighbours(&mut primary, metric, 20, condition, true)?;
        let theirs = neighbours(&mut client, metric, 20, condition, true)?;
        ensure!(ours == theirs, "the replica's answers are others");
        let recall = recall_at(&mut client, metric, 10, condition)?;
        println!("{} cycle {cycle}: {recall:.4}", metric.operator);
        ensure!(recall >= 0.9, "{recall} on the replica");
    }
    // The replica takes over, and goes on writing the index.
    cluster.stop(pgclip_cluster::Shutdown::Immediate)?;
    client.batch_execute("SELECT pg_promote()")?;
    let next: i64 = value(&mut client, "SELECT max(id) + 1 FROM t")?;
    fill(&mut client, "t", next, &clusters.take(100))?;
    client.each("DELETE FROM t WHERE id % 11 = 3; VACUUM t")?;
    pgclip_tests::vectors::ensure_whole(&mut client, metric, "i")?;
    ensure_calm(&replica.log())
}

fn ensure_calm(log: &Path) -> Result<()> {
    let log = std::fs::read_to_string(log)?;
    ensure!(!log.contains("inconsistent page found") && !log.contains("PANIC"), "{log}");
    Ok(())
}

#[test]
fn a_replica_has_the_same_pages_with_inline_codes() -> Result<()> {
    cycles(COSINE, 24, 1500, "")
}

/// Edges in tuples of their own: wide vectors.
#[test]
fn a_replica_has_the_same_pages_with_codes_apart() -> Result<()> {
    cycles(EUCLIDEAN, 1600, 250, "")
}

/// Ids alone.
#[test]
fn a_replica_has_the_same_pages_without_codes() -> Result<()> {
    cycles(INNER_PRODUCT, 2600, 200, "WITH (m = 8)")
}

/// Scans on a replica hold nothing in place while the primary's vacuum frees what they are about to
/// look at.
#[test]
fn a_replica_is_read_while_the_primary_changes() -> Result<()> {
    let (cluster, mut primary) =
        start(&Cluster::builder("busy_replica").setting("autovacuum", "off"))?;
    primary.batch_execute("CREATE EXTENSION pageinspect")?;
    let mut clusters = Clusters::new(43, 16, 20);
    make_tables(&mut primary, &mut clusters, 800)?;
    primary.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let replica = Replica::of(&cluster)?;
    let mut client = replica.connect()?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let scans = std::thread::scope(|scope| -> Result<u32> {
        let reading = scope.spawn(|| -> Result<u32> {
            let mut scans = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                match neighbours(&mut client, COSINE, 10, "true", true) {
                    Ok(found) => ensure!(found.iter().all(|found| found.len() == 10)),
                    // A vacuum's cleaning of the table may end a query here, whatever its plan.
                    Err(error) if format!("{error:?}").contains("conflict with recovery") => (),
                    Err(error) => return Err(error),
                }
                scans += 1;
            }
            Ok(scans)
        });
        let mut write = || -> Result<()> {
            for cycle in 0..15 {
                let next: i64 = value(&mut primary, "SELECT max(id) + 1 FROM t")?;
                let mut new = clusters.take(150);
                new.extend_from_within(..50);
                fill(&mut primary, "t", next, &new)?;
                primary.batch_execute(&format!("DELETE FROM t WHERE id % 4 = {}", cycle % 4))?;
                primary.batch_execute("VACUUM t")?;
            }
            Ok(())
        };
        let written = write();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        written?;
        reading.join().expect("the thread does not panic")
    })?;
    println!("{scans} rounds of scans");
    let mut client = replica.connect()?;
    replica.catch_up(&mut primary, &mut client)?;
    ensure_equal_pages(&mut primary, &mut client, "i")?;
    ensure_sound(&mut client, "i")
}
