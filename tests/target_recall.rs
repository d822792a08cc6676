//! A recall that is aimed at (`pgclip.target_recall`), and what searches are said to find
//! (`clip_index_recall`), against what they find of queries that are not in the table.

use anyhow::{Result, ensure};
use pgclip_tests::value;
use pgclip_tests::vectors::{
    COSINE, Clusters, EUCLIDEAN, Each, Metric, connect_listening, fill, make_tables, recall_at,
    start_quiet,
};
use postgres::Client;

/// How far the recall of the test's few queries may lie from that of the index's few samples.
const NEAR: f64 = 0.03;

fn create(client: &mut Client, metric: Metric) -> Result<()> {
    // In one thread, so that recall is the same each time.
    let alone = "SET max_parallel_maintenance_workers = 0";
    Ok(client.batch_execute(&format!(
        "{alone}; CREATE INDEX i ON t USING clip_hnsw (v {})",
        metric.class
    ))?)
}

/// Each target is met, within what so few queries tell; one that asks for little looks at less.
fn targets(client: &mut Client, metric: Metric, what: &str) -> Result<()> {
    for target in [0.9, 0.95, 0.99] {
        client.batch_execute(&format!("SET pgclip.target_recall = {target}"))?;
        let found = recall_at(client, metric, 10, "true")?;
        let told: f64 = value(client, "SELECT clip_index_recall('i', 10, 300)")?;
        println!("{} {what}, target {target}: {found:.4}, told {told:.4}", metric.operator);
        ensure!(found >= target - NEAR, "{what}: {found} where {target} was asked for");
        ensure!((told - found).abs() <= NEAR, "{what}: told {told}, found {found}");
    }
    client.batch_execute("RESET pgclip.target_recall")?;
    Ok(())
}

/// A slack says nothing to a person: the same one finds 0.8 of one table and 0.99 of another.
#[test]
fn a_target_is_met_whatever_the_vectors_are() -> Result<()> {
    for (dims, clusters) in [(16, 2000), (64, 60), (200, 400)] {
        for metric in [COSINE, EUCLIDEAN] {
            let (_cluster, mut client) = start_quiet("targets")?;
            make_tables(&mut client, &mut Clusters::new(21, dims, clusters), 6000)?;
            create(&mut client, metric)?;
            targets(&mut client, metric, &format!("{dims} dimensions"))?;
        }
    }
    Ok(())
}

/// An index that was empty when it was made knows nothing of its rows until a vacuum has measured: it
/// says so, and what it goes by meanwhile.
#[test]
fn what_was_not_measured_is_told_and_vacuum_measures_it() -> Result<()> {
    let (cluster, mut client) = start_quiet("untold")?;
    let mut clusters = Clusters::new(22, 48, 500);
    make_tables(&mut client, &mut clusters, 0)?;
    create(&mut client, COSINE)?;
    let nothing: Option<f64> = value(&mut client, "SELECT clip_index_recall('i')")?;
    ensure!(nothing.is_none(), "an empty index finds {nothing:?}");
    fill(&mut client, "t", 1, &clusters.take(3000))?;
    let search = "SET enable_seqscan = off; SET pgclip.target_recall = 0.95;
        SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries LIMIT 1) LIMIT 10";
    let told = |search: &str| -> Result<String> {
        let (mut client, notices) = connect_listening(&cluster)?;
        client.batch_execute(search)?;
        Ok(notices.lock().expect("the callback does not panic").join("\n"))
    };
    let plain = search.replace("SET pgclip.target_recall = 0.95;", "");
    ensure!(told(&plain)?.is_empty(), "nobody has asked for another recall");
    let before = told(search)?;
    ensure!(before.contains("pgclip.target_recall is not heeded"), "{before:?}");
    client.batch_execute("VACUUM t")?;
    let after = told(search)?;
    ensure!(after.is_empty(), "after a vacuum: {after}");
    targets(&mut client, COSINE, "after inserts and a vacuum")?;
    // Rows of another kind come in: half of all.
    let mut others = Clusters::new(23, 48, 20);
    fill(&mut client, "t", 3001, &others.take(3000))?;
    client.each("DELETE FROM t WHERE id <= 1500; VACUUM t")?;
    targets(&mut client, COSINE, "after a vacuum of a changed table")?;
    Ok(())
}
