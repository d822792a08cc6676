//! Builds, inserts and vacuums of an index that are told to end: by a cancel, a timeout, the
//! session's end, the server's. They must end soon, in the phase too in which threads of their own
//! are at work, and leave nothing behind.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::{Cluster, Shutdown};
use pgclip_tests::vectors::{
    COSINE, Clusters, Each, append, ensure_whole, fill, make_tables, recall_at, start_quiet,
};
use pgclip_tests::{sqlstate, value};
use postgres::Client;

/// Far longer than anything takes to end that heeds interrupts, far shorter than the builds below.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes minutes.
const SLOW: &str =
    "CREATE INDEX i ON t USING clip_hnsw (v, f) WITH (m = 64, ef_construction = 1000)";

/// Files of the database that are not empty, after a checkpoint.
fn files(cluster: &Cluster, client: &mut Client) -> Result<BTreeSet<String>> {
    client.batch_execute("CHECKPOINT")?;
    let database: String =
        value(client, "SELECT 'base/' || oid FROM pg_database WHERE datname = current_database()")?;
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(cluster.data().join(database))? {
        let entry = entry?;
        if entry.metadata()?.len() > 0 {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The threads of a process; none where it is gone.
fn threads(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Runs a statement in a session of its own, interrupts it when it has come to a phase, and says how
/// it ended.
fn interrupted(
    cluster: &Cluster,
    settings: &str,
    statement: &'static str,
    phase: &str,
    interrupt: &str,
) -> Result<(String, i32, Client)> {
    let mut session = cluster.connect()?;
    session.batch_execute(settings)?;
    let pid: i32 = value(&mut session, "SELECT pg_backend_pid()")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let ended = sqlstate(session.batch_execute(statement));
        // The test may have given up.
        let _ = sender.send((ended, session));
    });
    let mut observer = cluster.connect()?;
    cluster.wait_for(phase, || {
        let now = "SELECT count(*) > 0 FROM pg_stat_progress_create_index
            WHERE pid = $1 AND phase LIKE '%' || $2";
        Ok(observer.query_one(now, &[&pid, &phase])?.get(0))
    })?;
    let start = Instant::now();
    observer.execute(interrupt, &[&pid])?;
    let (ended, session) =
        receiver.recv_timeout(PATIENCE).with_context(|| format!("{phase}: it goes on"))?;
    println!("{phase}: {interrupt}: {ended} after {:?}", start.elapsed());
    Ok((ended, pid, session))
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_behind() -> Result<()> {
    let (cluster, mut client) = start_quiet("interrupted_build")?;
    make_tables(&mut client, &mut Clusters::new(31, 48, 50), 8000)?;
    let before = files(&cluster, &mut client)?;
    let phases = [
        ("SET maintenance_work_mem = '256MB'", "building graph in memory"),
        (
            "SET maintenance_work_mem = '256MB'; SET max_parallel_maintenance_workers = 0",
            "building graph in memory",
        ),
        ("SET maintenance_work_mem = '4MB'", "inserting into pages"),
    ];
    for (settings, phase) in phases {
        let cancel = "SELECT pg_cancel_backend($1)";
        let (ended, pid, mut session) = interrupted(&cluster, settings, SLOW, phase, cancel)?;
        assert_eq!(ended, "57014", "{phase}");
        cluster.wait_for("the threads' end", || Ok(threads(pid) == 1))?;
        // The session goes on, and can do the same again.
        session.batch_execute("SET statement_timeout = '300ms'")?;
        assert_eq!(sqlstate(session.batch_execute(SLOW)), "57014");
        cluster.wait_for("the threads' end", || Ok(threads(pid) == 1))?;
        // The error is told before the transaction has ended.
        session.batch_execute("SELECT")?;
        let locks = "SELECT count(*) FROM pg_locks WHERE pid = $1";
        let locks: i64 = client.query_one(locks, &[&pid])?.get(0);
        assert_eq!(locks, 0, "{phase}: locks are left");

        let terminate = "SELECT pg_terminate_backend($1)";
        let (ended, pid, _) = interrupted(&cluster, settings, SLOW, phase, terminate)?;
        // The client library may see the end of the connection before the error that tells why.
        assert!(["57P01", "connection closed"].contains(&&*ended), "{phase}: {ended}");
        cluster.wait_for("the backend's end", || Ok(threads(pid) == 0))?;
    }
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'i'")?, 0);
    let after = files(&cluster, &mut client)?;
    let left: Vec<&String> = after.difference(&before).collect();
    // Catalogs' and free space maps may grow; an index would be a new number.
    let left: Vec<_> = left.into_iter().filter(|name| !name.contains('_')).collect();
    assert!(left.is_empty(), "files are left: {left:?}");
    assert!(!cluster.log().contains("all server processes terminated"), "a backend crashed");
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    ensure_whole(&mut client, COSINE, "i")
}

/// A timeout strikes at any point, between two phases or within one.
#[test]
fn a_timeout_at_any_moment_of_a_build_leaves_nothing_behind() -> Result<()> {
    let (cluster, mut client) = start_quiet("timed_out_build")?;
    make_tables(&mut client, &mut Clusters::new(32, 32, 50), 4000)?;
    let create = "CREATE INDEX i ON t USING clip_hnsw (v, f)";
    let mut ended = Vec::new();
    for memory in ["64MB", "1MB"] {
        client.batch_execute(&format!("SET maintenance_work_mem = '{memory}'"))?;
        for step in 0..40u32 {
            let time = 3.0 * 1.25f64.powf(f64::from(step));
            client.batch_execute(&format!("SET statement_timeout = {}", time as u64))?;
            let state = sqlstate(client.batch_execute(create));
            ended.push(state.clone());
            client.batch_execute("RESET statement_timeout")?;
            if state == "no error" {
                break;
            }
            assert_eq!(state, "57014", "after {time} ms");
        }
        assert_eq!(ended.last().map(String::as_str), Some("no error"), "it never came to its end");
        ensure_whole(&mut client, COSINE, "i")?;
        client.batch_execute("DROP INDEX i")?;
    }
    ensure!(ended.len() > 10, "a poor test: {ended:?}");
    assert!(!cluster.log().contains("all server processes terminated"), "a backend crashed");
    Ok(())
}

/// CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY that are cancelled leave invalid indexes, as
/// with any access method; these can be dropped, or built.
#[test]
fn what_a_cancelled_concurrent_build_leaves_can_be_dropped_or_built() -> Result<()> {
    let (cluster, mut client) = start_quiet("cancelled_concurrently")?;
    make_tables(&mut client, &mut Clusters::new(33, 48, 50), 8000)?;
    let cancel = "SELECT pg_cancel_backend($1)";
    let phase = "building graph in memory";
    let concurrently = "CREATE INDEX CONCURRENTLY i ON t USING clip_hnsw (v, f) WITH (m = 64, ef_construction = 1000)";
    for end in [
        "DROP INDEX i",
        "DROP INDEX CONCURRENTLY i",
        "ALTER INDEX i RESET (m, ef_construction); REINDEX INDEX i",
    ] {
        let (ended, ..) = interrupted(&cluster, "SELECT", concurrently, phase, cancel)?;
        assert_eq!(ended, "57014");
        let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass";
        assert!(!value::<bool>(&mut client, valid)?);
        // It takes no part in anything.
        append(&mut client, &Clusters::new(34, 48, 50).take(20))?;
        client.batch_execute("VACUUM t")?;
        client.each(end)?;
    }
    ensure_whole(&mut client, COSINE, "i")?;
    client.batch_execute("ALTER INDEX i SET (m = 64, ef_construction = 1000)")?;
    let again = "REINDEX INDEX CONCURRENTLY i";
    let (ended, ..) = interrupted(&cluster, "SELECT", again, phase, cancel)?;
    assert_eq!(ended, "57014");
    ensure_whole(&mut client, COSINE, "i")?;
    client.batch_execute("DROP INDEX i_ccnew; ALTER INDEX i RESET (m, ef_construction)")?;
    client.batch_execute("REINDEX INDEX CONCURRENTLY i")?;
    ensure_whole(&mut client, COSINE, "i")
}

/// A vacuum or an insert that is cancelled midway leaves marks and half-made links. What comes next
/// has to put up with them, and the next vacuum to end them. In each round the rows go that `gone` names
/// to the round's first new row.
fn cancelled(name: &str, gone: impl Fn(i64) -> String) -> Result<()> {
    let (cluster, mut client) = start_quiet(name)?;
    let mut clusters = Clusters::new(35, 32, 50);
    make_tables(&mut client, &mut clusters, 3000)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let mut cut = 0;
    for round in 0..12u32 {
        let first: i64 = value(&mut client, "SELECT max(id) + 1 FROM t")?;
        let timeout = 4.0 * 1.4f64.powf(f64::from(round));
        client.batch_execute(&format!("SET statement_timeout = {}", timeout as u64))?;
        let filled = fill(&mut client, "t", first, &clusters.take(300));
        cut += usize::from(filled.is_err());
        client.batch_execute("RESET statement_timeout")?;
        append(&mut client, &clusters.take(100))?;
        let delete = format!("DELETE FROM t WHERE {}", gone(first));
        client.batch_execute(&delete)?;
        client.batch_execute(&format!("SET statement_timeout = {}", timeout as u64))?;
        let vacuumed = sqlstate(client.batch_execute("VACUUM t"));
        cut += usize::from(vacuumed != "no error");
        client.batch_execute("RESET statement_timeout")?;
        assert!(["57014", "no error"].contains(&&*vacuumed), "{vacuumed}");
        let recall = recall_at(&mut client, COSINE, 10, "true")?;
        println!("round {round}: VACUUM: {vacuumed}, recall {recall:.4}");
        ensure!(recall >= 0.93, "round {round}: {recall}");
    }
    ensure!(cut >= 4, "a poor test: {cut} statements were cut short");
    client.batch_execute("VACUUM t")?;
    let dead: i64 = value(&mut client, "SELECT dead FROM clip_index_stats('i')")?;
    assert_eq!(dead, 0, "elements are still dead");
    ensure_whole(&mut client, COSINE, "i")?;
    // One slack for both: what differs is the graph.
    client.batch_execute("SET pgclip.search_slack = 0.2")?;
    let recall = recall_at(&mut client, COSINE, 10, "true")?;
    client.batch_execute("SET max_parallel_maintenance_workers = 0; REINDEX INDEX i")?;
    let fresh = recall_at(&mut client, COSINE, 10, "true")?;
    println!("recall {recall:.4}, fresh {fresh:.4}");
    // Where a cancel strikes is not the same each time.
    ensure!(recall >= fresh - 0.02, "{recall} after cancels, {fresh} after a fresh build");
    assert!(!cluster.log().contains("all server processes terminated"), "a backend crashed");
    Ok(())
}

#[test]
fn vacuums_and_inserts_that_are_cancelled_lose_nothing() -> Result<()> {
    cancelled("cancelled_vacuum", |first| format!("id <= 3000 AND (id + {first} / 100) % 24 = 0"))
}

/// The same where nearly all elements are dead, since no vacuum came to its end: rows that are
/// inserted among them once found no living neighbour, and nothing led to them.
#[test]
fn rows_among_the_dead_are_found() -> Result<()> {
    cancelled("among_the_dead", |first| format!("id < {first} - 100"))
}

/// A server that is told to stop does not wait for a build.
#[test]
fn a_server_stops_during_a_build() -> Result<()> {
    let (cluster, mut client) = start_quiet("stopped_build")?;
    make_tables(&mut client, &mut Clusters::new(36, 48, 50), 8000)?;
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        let mut session = cluster.connect()?;
        let building = std::thread::spawn(move || sqlstate(session.batch_execute(SLOW)));
        let mut observer = cluster.connect()?;
        cluster.wait_for("the build", || {
            let now = "SELECT count(*) > 0 FROM pg_stat_progress_create_index
                WHERE phase LIKE '%building graph in memory'";
            value(&mut observer, now)
        })?;
        cluster.stop(how)?;
        let ended = building.join().expect("the thread does not panic");
        assert_ne!(ended, "no error");
        cluster.start()?;
    }
    let mut client = cluster.connect()?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    ensure_whole(&mut client, COSINE, "i")
}
