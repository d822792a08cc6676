//! What PostgreSQL does to indexes besides inserting and searching: unlogged and temporary tables,
//! expressions, predicates, rebuilding with and without concurrent writers, rewriting the table,
//! partitions, dumps, statistics.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, SUPERUSER, Shutdown};
use pgclip_tests::vectors::{
    COSINE, Clusters, EUCLIDEAN, Each, connect_listening, drained, ensure_sound, ensure_whole,
    explain, fill, make_tables, recall_at, start_quiet,
};
use pgclip_tests::{sqlstate, start, value};
use postgres::Client;

fn prepared(name: &str, rows: usize) -> Result<(Cluster, Client, Clusters)> {
    let (cluster, mut client) = start_quiet(name)?;
    let mut clusters = Clusters::new(61, 24, 40);
    make_tables(&mut client, &mut clusters, rows)?;
    Ok((cluster, client, clusters))
}

/// Sound, whole, and with good recall.
fn ensure_good(client: &mut Client) -> Result<()> {
    ensure_whole(client, COSINE, "i")?;
    let recall = recall_at(client, COSINE, 10, "true")?;
    ensure!(recall >= 0.93, "recall {recall}");
    Ok(())
}

/// After a crash the index of an unlogged table is what `ambuildempty` made: it must be empty and
/// take rows. After a clean stop it is as it was.
#[test]
fn an_unlogged_index_is_empty_after_a_crash() -> Result<()> {
    let (cluster, mut client, mut clusters) = prepared("unlogged", 0)?;
    client.batch_execute("ALTER TABLE t SET UNLOGGED")?;
    fill(&mut client, "t", 1, &clusters.take(1000))?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    fill(&mut client, "t", 1001, &clusters.take(500))?;
    ensure_good(&mut client)?;
    cluster.restart()?;
    client = cluster.connect()?;
    ensure_good(&mut client)?;
    for how in ["killed", "stopped at once"] {
        match how {
            "killed" => cluster.kill()?,
            _ => cluster.stop(Shutdown::Immediate)?,
        }
        cluster.start()?;
        client = cluster.connect()?;
        assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM t")?, 0, "{how}");
        ensure_sound(&mut client, "i")?;
        assert_eq!(drained(&mut client, COSINE, "(SELECT v FROM queries LIMIT 1)")?, 0, "{how}");
        fill(&mut client, "t", 1, &clusters.take(800))?;
        client.each("DELETE FROM t WHERE id % 5 = 0; VACUUM t")?;
        ensure_good(&mut client)?;
    }
    client.batch_execute("ALTER TABLE t SET LOGGED")?;
    ensure_good(&mut client)?;
    cluster.kill()?;
    cluster.start()?;
    client = cluster.connect()?;
    ensure_good(&mut client)?;
    client.batch_execute("ALTER TABLE t SET UNLOGGED")?;
    ensure_good(&mut client)
}

/// Where a page was found is remembered, and forgotten by nobody when another takes its buffer: here
/// two indexes drive each other's pages out.
#[test]
fn buffers_change_hands() -> Result<()> {
    let small = Cluster::builder("buffers").setting("shared_buffers", "1MB");
    let (_cluster, mut client) = start(&small.setting("autovacuum", "off"))?;
    let mut clusters = Clusters::new(67, 24, 40);
    make_tables(&mut client, &mut clusters, 4500)?;
    client.each(
        "CREATE INDEX i ON t USING clip_hnsw (v, f);
         CREATE TABLE t2 AS SELECT * FROM t WHERE id % 2 = 0;
         CREATE INDEX i2 ON t2 USING clip_hnsw (v, f)",
    )?;
    let pages = "SELECT pg_relation_size('i') / pg_size_bytes(current_setting('shared_buffers'))";
    ensure!(value::<i64>(&mut client, pages)? >= 2, "the index fits into memory");
    let other = "SELECT count(*) FROM (SELECT FROM queries CROSS JOIN LATERAL \
                 (SELECT FROM t2 ORDER BY t2.v <=> queries.v LIMIT 10) AS a) AS b";
    for _ in 0..3 {
        ensure_good(&mut client)?;
        ensure!(value::<i64>(&mut client, other)? > 0, "no rows");
        ensure_whole(&mut client, COSINE, "i")?;
        client.each("UPDATE t SET f = f + 1 WHERE id % 7 = 0; VACUUM t; REINDEX INDEX i2")?;
    }
    ensure_sound(&mut client, "i2")
}

/// Pages of temporary tables are in the session's own memory, and ON COMMIT DELETE ROWS builds the
/// index again at each commit.
#[test]
fn temporary_tables_have_indexes() -> Result<()> {
    let (cluster, mut client) = start_quiet("temporary")?;
    let mut clusters = Clusters::new(62, 24, 40);
    client.batch_execute("SET temp_buffers = '1MB'; CREATE TEMPORARY TABLE queries (id bigint, v embedding(24), f int)")?;
    fill(&mut client, "queries", 1, &clusters.take(100))?;
    client.batch_execute("CREATE TEMPORARY TABLE t (id bigint, v embedding(24), f int)")?;
    fill(&mut client, "t", 1, &clusters.take(2500))?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f); ANALYZE t")?;
    fill(&mut client, "t", 2501, &clusters.take(500))?;
    ensure_good(&mut client)?;
    client.each("DELETE FROM t WHERE id % 4 = 0; VACUUM t")?;
    ensure_good(&mut client)?;
    // Another session's cannot be looked into, and says so.
    let mut other = cluster.connect()?;
    let schema: String = value(
        &mut client,
        "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()",
    )?;
    for function in ["clip_index_check", "clip_index_stats"] {
        let look = format!("SELECT * FROM {function}('{schema}.i')");
        assert_eq!(sqlstate(other.query(&look, &[])), "0A000");
    }
    client.batch_execute(
        "DROP TABLE t;
         CREATE TEMPORARY TABLE t (id bigint, v embedding(24), f int) ON COMMIT DELETE ROWS;
         CREATE INDEX i ON t USING clip_hnsw (v, f)",
    )?;
    for _ in 0..3 {
        client.batch_execute("BEGIN")?;
        fill(&mut client, "t", 1, &clusters.take(50))?;
        let nearest = "SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries LIMIT 1) LIMIT 30) n";
        client.batch_execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")?;
        assert_eq!(value::<i64>(&mut client, nearest)?, 30);
        client.batch_execute("COMMIT")?;
        assert_eq!(drained(&mut client, COSINE, "(SELECT v FROM queries LIMIT 1)")?, 0);
    }
    Ok(())
}

/// Expressions in place of the column, of the vector and of a filter, and a predicate: rows come in
/// and out of the index as they change.
#[test]
fn indexes_on_expressions_and_on_some_rows() -> Result<()> {
    let (_cluster, mut client, mut clusters) = prepared("expressions", 1500)?;
    client.batch_execute(
        "CREATE INDEX part ON t USING clip_hnsw (subvector(v, 1, 8), (f % 10)) WHERE f >= 50;
         SET enable_seqscan = off; SET enable_sort = off",
    )?;
    fill(&mut client, "t", 1501, &clusters.take(500))?;
    let query = "(SELECT subvector(v, 1, 8) FROM queries LIMIT 1)";
    let nearest = |condition: &str| {
        format!("SELECT id FROM t WHERE {condition} ORDER BY subvector(v, 1, 8) <=> {query}")
    };
    let rows = |client: &mut Client, condition: &str| -> Result<usize> {
        let plan = explain(client, &nearest(condition))?;
        ensure!(plan.contains("Index Scan using part"), "another plan than wanted:\n{plan}");
        client.batch_execute("SET pgclip.iterative_scan = relaxed")?;
        Ok(client.query(&nearest(condition), &[])?.len())
    };
    assert_eq!(rows(&mut client, "f >= 50")?, 1000);
    assert_eq!(rows(&mut client, "f >= 50 AND f % 10 = 3")?, 100);
    client.batch_execute("UPDATE t SET f = f - 50 WHERE f >= 90")?;
    assert_eq!(rows(&mut client, "f >= 50")?, 800);
    client.each("VACUUM t; UPDATE t SET f = f + 50 WHERE f BETWEEN 40 AND 44; VACUUM t")?;
    assert_eq!(rows(&mut client, "f >= 50")?, 1000);
    ensure_sound(&mut client, "part")?;
    // The column's own order is not that of the expression.
    let plan = explain(
        &mut client,
        "SELECT id FROM t WHERE f >= 50 ORDER BY v <=> (SELECT v FROM queries LIMIT 1)",
    )?;
    ensure!(!plan.contains("part"), "{plan}");
    Ok(())
}

/// Writers go on while an index is built or rebuilt beside them, and none of their rows is lost.
#[test]
fn concurrent_builds_miss_no_row() -> Result<()> {
    let (cluster, mut client, clusters) = prepared("concurrently", 2000)?;
    for statement in [
        "CREATE INDEX CONCURRENTLY i ON t USING clip_hnsw (v, f)",
        "REINDEX INDEX CONCURRENTLY i",
        "SET maintenance_work_mem = '1MB'; REINDEX INDEX CONCURRENTLY i",
    ] {
        let over = AtomicBool::new(false);
        let first: i64 = value(&mut client, "SELECT max(id) + 1 FROM t")?;
        std::thread::scope(|scope| -> Result<()> {
            let write = |from: i64, seed: u64| -> Result<i64> {
                let mut client = cluster.connect()?;
                let mut clusters = clusters.clone_with_seed(seed);
                let mut next = from;
                while !over.load(Ordering::Relaxed) {
                    fill(&mut client, "t", next, &clusters.take(5))?;
                    client.batch_execute(&format!(
                        "UPDATE t SET v = (SELECT v FROM queries WHERE queries.id = 1 + t.id % 200) WHERE id = {next};
                         UPDATE t SET f = f + 1 WHERE id = {next} + 1;
                         DELETE FROM t WHERE id = {next} + 2"
                    ))?;
                    next += 5;
                }
                Ok(next - from)
            };
            let writers = [
                scope.spawn(move || write(first, 63)),
                scope.spawn(move || write(first + 1_000_000, 64)),
            ];
            // Outside a transaction block, one by one.
            let built = client.each(statement);
            over.store(true, Ordering::Relaxed);
            for writer in writers {
                println!("{} rows written", writer.join().expect("no writer panics")?);
            }
            built.with_context(|| statement)
        })?;
        ensure_good(&mut client).with_context(|| statement)?;
        client.batch_execute("VACUUM t")?;
        ensure_good(&mut client).with_context(|| statement)?;
    }
    Ok(())
}

/// Rows move, and the index with them.
#[test]
fn the_table_is_rewritten() -> Result<()> {
    let (_cluster, mut client, _) = prepared("rewritten", 1500)?;
    client.batch_execute(
        "CREATE INDEX i ON t USING clip_hnsw (v, f); ALTER TABLE t ADD PRIMARY KEY (id)",
    )?;
    for statement in [
        "VACUUM FULL t",
        "CLUSTER t USING t_pkey",
        "ALTER TABLE t ADD COLUMN g float8 DEFAULT random()",
        "ALTER TABLE t ALTER COLUMN f TYPE bigint",
        "ALTER TABLE t ALTER COLUMN f TYPE text USING 'camera ' || f",
        "REINDEX TABLE t",
        "ALTER INDEX i SET (m = 8); REINDEX INDEX i",
        "ALTER TABLE t SET TABLESPACE pg_default",
        "ALTER TABLE t RENAME COLUMN v TO w; ALTER TABLE t RENAME COLUMN w TO v",
        "BEGIN; TRUNCATE t; ROLLBACK",
    ] {
        client.batch_execute("DELETE FROM t WHERE id % 40 = 7")?;
        client.each(statement)?;
        client.each("DELETE FROM t WHERE id % 40 = 9; VACUUM t")?;
        ensure_good(&mut client).with_context(|| statement)?;
    }
    // No order of rows comes from this index.
    let error = client.batch_execute("CLUSTER t USING i").expect_err("it has no order of its own");
    assert_eq!(error.code().map(|code| code.code()), Some("0A000"), "{error}");
    // As for dropping what it needs.
    assert_eq!(sqlstate(client.batch_execute("ALTER TABLE t ALTER COLUMN v TYPE text")), "0A000");
    client.batch_execute("ALTER TABLE t DROP COLUMN f")?;
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'i'")?, 0);
    Ok(())
}

/// A materialized view has indexes as a table has, and REFRESH builds or changes them.
#[test]
fn a_materialized_view_is_refreshed() -> Result<()> {
    let (_cluster, mut client, mut clusters) = prepared("refreshed", 800)?;
    client.batch_execute(
        "ALTER TABLE t RENAME TO source;
         CREATE MATERIALIZED VIEW t AS SELECT * FROM source WHERE f < 50;
         CREATE UNIQUE INDEX ON t (id);
         CREATE INDEX i ON t USING clip_hnsw (v, f)",
    )?;
    ensure_good(&mut client)?;
    fill(&mut client, "source", 1001, &clusters.take(400))?;
    client.batch_execute("DELETE FROM source WHERE id % 7 = 0; REFRESH MATERIALIZED VIEW t")?;
    ensure_good(&mut client)?;
    fill(&mut client, "source", 2001, &clusters.take(400))?;
    client.batch_execute("DELETE FROM source WHERE id % 7 = 1")?;
    client.each("REFRESH MATERIALIZED VIEW CONCURRENTLY t; VACUUM t")?;
    ensure_good(&mut client)
}

/// An index on a partitioned table is one on each partition; the planner merges their orders.
#[test]
fn partitions_have_an_index_each() -> Result<()> {
    let (_cluster, mut client) = start_quiet("partitions_index")?;
    let mut clusters = Clusters::new(65, 24, 40);
    client.batch_execute(
        "CREATE TABLE t (id bigint, v embedding(24), f int) PARTITION BY RANGE (f);
         CREATE TABLE t0 PARTITION OF t FOR VALUES FROM (0) TO (30);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (30) TO (60);
         CREATE TABLE queries (id bigint, v embedding(24), f int);
         CREATE INDEX i ON t USING clip_hnsw (v, id);
         CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (60) TO (100)",
    )?;
    fill(&mut client, "t", 1, &clusters.take(3000))?;
    fill(&mut client, "queries", 1, &clusters.take(100))?;
    client.batch_execute("ANALYZE t; ANALYZE queries")?;
    let recall = recall_at(&mut client, COSINE, 10, "true")?;
    ensure!(recall >= 0.95, "{recall}");
    let recall = recall_at(&mut client, COSINE, 10, "t.f < 60 AND t.id < 1500")?;
    ensure!(recall >= 0.95, "{recall}");
    client.batch_execute("SET enable_seqscan = off; SET enable_sort = off")?;
    let plan = explain(
        &mut client,
        "SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries LIMIT 1) LIMIT 5",
    )?;
    ensure!(plan.contains("Merge Append") && plan.matches("Order By: (v ").count() == 3, "{plan}");
    assert_eq!(sqlstate(client.query("SELECT * FROM clip_index_check('i')", &[])), "42809");
    for partition in ["t0_v_id_idx", "t1_v_id_idx", "t2_v_id_idx"] {
        ensure_sound(&mut client, partition)?;
    }
    client.batch_execute("RESET enable_seqscan; RESET enable_sort;
         ALTER TABLE t DETACH PARTITION t1; ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (30) TO (60)")?;
    let recall = recall_at(&mut client, COSINE, 10, "true")?;
    ensure!(recall >= 0.95, "{recall}");
    Ok(())
}

/// Options, operator classes, filter columns and predicates survive a dump.
#[test]
fn a_dump_carries_indexes() -> Result<()> {
    let (cluster, mut client, _) = prepared("dump_index", 300)?;
    client.each(
        "CREATE INDEX a ON t USING clip_hnsw (v embedding_l2_ops, f) WITH (m = 12, ef_construction = 40);
         CREATE INDEX b ON t USING clip_hnsw (subvector(v, 1, 8) embedding_ip_ops, (f % 10)) WHERE f > 3;
         CREATE INDEX i ON t USING clip_hnsw (v, f, id);
         CREATE DATABASE restored TEMPLATE template0",
    )?;
    let mut dump = cluster.client_program("pg_dump", "postgres").stdout(Stdio::piped()).spawn()?;
    let psql = cluster
        .client_program("psql", "restored")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(dump.stdout.take().context("no output to read")?)
        .stdout(Stdio::null())
        .output()?;
    ensure!(psql.status.success(), "psql: {}", String::from_utf8_lossy(&psql.stderr));
    ensure!(dump.wait()?.success(), "pg_dump failed");
    let mut restored = cluster.connect_as(SUPERUSER, "restored")?;
    let all =
        "SELECT string_agg(pg_get_indexdef(indexrelid), E'\\n' ORDER BY indexrelid::regclass::text)
        FROM pg_index WHERE indrelid = 't'::regclass";
    let (before, after): (String, String) = (value(&mut client, all)?, value(&mut restored, all)?);
    assert_eq!(before, after);
    restored.batch_execute("ANALYZE")?;
    ensure_good(&mut restored)?;
    for index in ["a", "b"] {
        ensure_sound(&mut restored, index)?;
    }
    restored.batch_execute("DROP INDEX i")?;
    let recall = recall_at(&mut restored, EUCLIDEAN, 10, "true")?;
    ensure!(recall >= 0.95, "{recall}");
    Ok(())
}

/// Progress is told in phases with counts, and scans are counted: once each, also when started
/// again.
#[test]
fn progress_and_statistics_are_told() -> Result<()> {
    let (cluster, mut client, _) = prepared("progress", 8000)?;
    let mut session = cluster.connect()?;
    let building = std::thread::spawn(move || {
        session.batch_execute(
            "CREATE INDEX i ON t USING clip_hnsw (v, f) WITH (m = 32, ef_construction = 300)",
        )
    });
    let mut seen: Vec<(String, i64, i64)> = Vec::new();
    while !building.is_finished() {
        let now = "SELECT phase, tuples_done, tuples_total FROM pg_stat_progress_create_index";
        if let Some(row) = client.query_opt(now, &[])? {
            seen.push((row.get(0), row.get(1), row.get(2)));
        }
    }
    building.join().expect("the thread does not panic")?;
    let linking: Vec<&(String, i64, i64)> =
        seen.iter().filter(|(phase, ..)| phase.ends_with("building graph in memory")).collect();
    ensure!(linking.len() > 3, "{seen:?}");
    ensure!(linking.iter().all(|(_, done, total)| done <= total), "{linking:?}");
    ensure!(linking.iter().any(|(_, done, total)| *total == 8000 && *done > 0), "{linking:?}");
    ensure!(seen.iter().all(|(phase, ..)| !phase.contains("unknown")), "{seen:?}");

    let scans = "SELECT pg_stat_force_next_flush(), idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'i'";
    let count = |client: &mut Client| -> Result<i64> {
        client.query(scans, &[])?;
        Ok(client.query_one(scans, &[])?.get(1))
    };
    client.batch_execute("SET enable_seqscan = off; SET enable_sort = off")?;
    let before = count(&mut client)?;
    client.query("SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries LIMIT 1) LIMIT 3", &[])?;
    assert_eq!(count(&mut client)?, before + 1);
    client.query(
        "SELECT n.id FROM (SELECT v FROM queries LIMIT 7) q
           CROSS JOIN LATERAL (SELECT id FROM t ORDER BY t.v <=> q.v LIMIT 3) n",
        &[],
    )?;
    assert_eq!(count(&mut client)?, before + 8);
    let read = "SELECT idx_tup_read >= 24 FROM pg_stat_user_indexes WHERE indexrelname = 'i'";
    assert!(value::<bool>(&mut client, read)?);
    Ok(())
}

/// Emptied tuples of further rows stayed in their chain, item pointers were never used again, and the
/// free space map was asked for more than it can say of an empty page: 3,000 equal rows in and out took
/// four more pages each time, for ever.
#[test]
fn equal_rows_come_and_go_in_the_same_space() -> Result<()> {
    let (_cluster, mut client, _) = prepared("come_and_go", 500)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let mut sizes = Vec::new();
    for round in 0..8 {
        client.each(
            "INSERT INTO t SELECT 100000 + n, (SELECT v FROM t WHERE id = 7), n FROM generate_series(1, 3000) n;
             DELETE FROM t WHERE id > 100000 AND id % 50 <> 1; VACUUM t;
             DELETE FROM t WHERE id > 100000; VACUUM t",
        )?;
        ensure_good(&mut client).with_context(|| format!("round {round}"))?;
        sizes.push(value::<i64>(&mut client, "SELECT pg_relation_size('i')")?);
    }
    ensure!(sizes[2..].iter().all(|size| *size == sizes[2]), "{sizes:?}");
    // Singles, too.
    let mut sizes = Vec::new();
    for _ in 0..8 {
        client.each(
            "INSERT INTO t SELECT 100000 + id, v, f FROM queries; DELETE FROM t WHERE id > 100000; VACUUM t",
        )?;
        sizes.push(value::<i64>(&mut client, "SELECT pg_relation_size('i')")?);
    }
    ensure!(sizes[2..].iter().all(|size| *size <= sizes[2]), "{sizes:?}");
    ensure_good(&mut client)
}

/// The first rows did depend on how many were asked for: of the 200 rows of pages by OFFSET ten came
/// twice, and 14 never.
#[test]
fn pages_by_offset_are_parts_of_one_order() -> Result<()> {
    let (_cluster, mut client, _) = prepared("offset", 3000)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f); SET enable_seqscan = off; SET enable_sort = off")?;
    for query in 1..6 {
        let mut rows = |limit: usize, offset: usize| -> Result<Vec<i64>> {
            let sql = format!(
                "SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries WHERE id = {query}) LIMIT {limit} OFFSET {offset}"
            );
            Ok(client.query(&sql, &[])?.iter().map(|row| row.get(0)).collect())
        };
        let all = rows(400, 0)?;
        for limit in [1, 2, 9, 10, 11, 30, 31, 77, 100, 250] {
            assert_eq!(rows(limit, 0)?, all[..limit], "query {query}, LIMIT {limit}");
        }
        for page in 0..20 {
            assert_eq!(rows(10, 10 * page)?, all[10 * page..][..10], "query {query}, page {page}");
        }
    }
    Ok(())
}

/// The first vector's dimensions stayed for good, though its transaction was rolled back, or all rows
/// were deleted.
#[test]
fn dimensions_of_rows_that_are_gone_are_forgotten() -> Result<()> {
    let (_cluster, mut client) = start_quiet("forgotten")?;
    client
        .batch_execute("CREATE TABLE e (v embedding); CREATE INDEX ei ON e USING clip_hnsw (v)")?;
    client.batch_execute("BEGIN; INSERT INTO e VALUES ('[1,2,3]'); ROLLBACK")?;
    let five = "INSERT INTO e VALUES ('[1,2,3,4,5]'), ('[5,4,3,2,1]')";
    assert_eq!(sqlstate(client.batch_execute(five)), "22000");
    client.each("VACUUM e")?;
    client.batch_execute(five)?;
    ensure_sound(&mut client, "ei")?;
    client.each("DELETE FROM e; VACUUM e")?;
    client.batch_execute(
        "INSERT INTO e SELECT ('[' || n || ',1]')::embedding FROM generate_series(1, 300) n",
    )?;
    ensure_sound(&mut client, "ei")?;
    client.batch_execute("SET enable_seqscan = off; SET enable_sort = off")?;
    let found = "SELECT count(*) FROM (SELECT v FROM e ORDER BY v <=> '[1,1]' LIMIT 300) n";
    assert_eq!(value::<i64>(&mut client, found)?, 300);
    Ok(())
}

/// Any equal rows made each vacuum, and the check at the end of CREATE INDEX CONCURRENTLY, mark the
/// index as one with dead elements, and pass over it once more.
#[test]
fn equal_rows_are_no_dead_ones() -> Result<()> {
    let (cluster, mut client, _) = prepared("equal", 400)?;
    client.each(
        "INSERT INTO t SELECT 10000 + id, v, f FROM t;
         CREATE INDEX CONCURRENTLY i ON t USING clip_hnsw (v, f);
         DELETE FROM t WHERE id > 10000; CHECKPOINT",
    )?;
    let path: String = value(&mut client, "SELECT pg_relation_filepath('i')")?;
    let pending = || -> Result<bool> {
        let meta = std::fs::read(cluster.data().join(&path))?;
        Ok(meta[24 + 20] & 1 == 1 || meta[24 + 20] >> 1 > 0)
    };
    ensure!(!pending()?, "after CREATE INDEX CONCURRENTLY");
    client.each("VACUUM t; CHECKPOINT")?;
    ensure!(!pending()?, "after a vacuum that found no element dead");
    client.each("DELETE FROM t WHERE id % 9 = 0; VACUUM t; CHECKPOINT")?;
    ensure!(pending()?, "elements were freed");
    ensure_good(&mut client)
}

/// Two indexes of one table are vacuumed by a process each, as the server does it with its own.
#[test]
fn indexes_are_vacuumed_side_by_side() -> Result<()> {
    let (cluster, mut client, mut clusters) = prepared("side_by_side", 3000)?;
    client.each(
        "CREATE INDEX i ON t USING clip_hnsw (v, f);
         CREATE INDEX other ON t USING clip_hnsw (v embedding_l2_ops);
         DELETE FROM t WHERE id % 3 = 0",
    )?;
    let (mut listening, notices) = connect_listening(&cluster)?;
    listening.each("SET min_parallel_index_scan_size = 0; VACUUM (VERBOSE, PARALLEL 1) t")?;
    let told = notices.lock().expect("the callback does not panic").join("\n");
    ensure!(told.contains("launched 1 parallel vacuum worker for index vacuuming"), "{told}");
    for index in ["i", "other"] {
        ensure_sound(&mut client, index)?;
        let stats = format!("SELECT dead, elements FROM clip_index_stats('{index}')");
        let row = client.query_one(&stats, &[])?;
        assert_eq!((row.get(0), row.get(1)), (0i64, 2000i64), "{index}");
    }
    fill(&mut client, "t", 3001, &clusters.take(500))?;
    ensure_good(&mut client)
}
