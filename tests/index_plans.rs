//! Which plan is chosen: the index where it is the fastest, and another where that is. With the
//! settings and statistics that a user has, nothing switched off.

use anyhow::{Result, ensure};
use pgclip_tests::vectors::{Clusters, Each, explain, make_tables, start_quiet};
use postgres::Client;

/// The plan of the `limit` nearest rows that pass a condition.
fn plan(client: &mut Client, condition: &str, limit: &str) -> Result<String> {
    let query = "(SELECT v FROM queries WHERE id = 1)";
    explain(client, &format!("SELECT id FROM t WHERE {condition} ORDER BY v <=> {query} {limit}"))
}

#[test]
fn the_planner_chooses_well() -> Result<()> {
    let (_cluster, mut client) = start_quiet("plans")?;
    make_tables(&mut client, &mut Clusters::new(81, 64, 50), 20_000)?;
    client.each(
        "ALTER TABLE t ADD COLUMN rare int, ADD COLUMN half bool;
         UPDATE t SET rare = id / 20, half = id % 2 = 0;
         CREATE INDEX by_rare ON t (rare);
         SET max_parallel_maintenance_workers = 1;
         CREATE INDEX i ON t USING clip_hnsw (v, f, half);
         VACUUM ANALYZE t",
    )?;
    let chosen = [
        ("true", "LIMIT 1", "Index Scan using i on t"),
        ("true", "LIMIT 10", "Index Scan using i on t"),
        ("true", "LIMIT 100", "Index Scan using i on t"),
        // Nothing is gained by an order that takes a walk through all.
        ("true", "", "Seq Scan on t"),
        ("v IS NOT NULL", "LIMIT 10", "Index Scan using i on t"),
        // Half of the rows pass, by a filter column.
        ("half", "LIMIT 10", "Index Scan using i on t"),
        ("f < 50", "LIMIT 10", "Index Scan using i on t"),
        // One in a thousand: the B-tree, and a sort.
        ("rare = 77", "LIMIT 10", "by_rare"),
        ("rare = 77 AND f < 50", "LIMIT 10", "by_rare"),
        ("rare = ANY ('{1,2,3}')", "LIMIT 10", "by_rare"),
        // No rows without an embedding are in the index.
        ("v IS NULL", "LIMIT 10", "Seq Scan on t"),
    ];
    let mut wrong = Vec::new();
    for (condition, limit, wanted) in chosen {
        let plan = plan(&mut client, condition, limit)?;
        if !plan.contains(wanted) {
            wrong.push(format!("WHERE {condition} {limit}: not {wanted}:\n{plan}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // It has nothing to give but rows in order: no values, no bitmaps.
    client.batch_execute("SET enable_seqscan = off; SET enable_sort = off")?;
    let values = "SELECT v, f FROM t ORDER BY v <=> (SELECT v FROM queries WHERE id = 1) LIMIT 10";
    for query in [values, "SELECT id FROM t WHERE f = 7", "SELECT count(*) FROM t WHERE half"] {
        let plan = explain(&mut client, query)?;
        ensure!(!plan.contains("Index Only Scan") && !plan.contains("Bitmap"), "{plan}");
        ensure!(plan.contains("using i") == (query == values), "{plan}");
    }
    let half = plan(&mut client, "half", "LIMIT 10")?;
    ensure!(half.contains("Index Cond: (half = true)"), "{half}");
    Ok(())
}

/// A table of a few pages is read faster than it is walked through.
#[test]
fn a_small_table_is_scanned() -> Result<()> {
    let (_cluster, mut client) = start_quiet("small")?;
    make_tables(&mut client, &mut Clusters::new(82, 16, 10), 60)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v); ANALYZE t")?;
    let plan = plan(&mut client, "true", "LIMIT 10")?;
    ensure!(plan.contains("Seq Scan on t"), "{plan}");
    Ok(())
}

/// Wide vectors are stored out of line, where the table's own pages are few: fetching them is what
/// a scan of it costs.
#[test]
fn wide_vectors_are_searched_by_the_index() -> Result<()> {
    let (_cluster, mut client) = start_quiet("wide")?;
    make_tables(&mut client, &mut Clusters::new(83, 1280, 10), 2500)?;
    client.each(
        "SET max_parallel_maintenance_workers = 1;
         CREATE INDEX i ON t USING clip_hnsw (v, f); VACUUM ANALYZE t",
    )?;
    for (condition, limit) in [("true", "LIMIT 10"), ("f < 50", "LIMIT 10")] {
        let plan = plan(&mut client, condition, limit)?;
        ensure!(plan.contains("Index Scan using i on t"), "{condition} {limit}:\n{plan}");
    }
    Ok(())
}
