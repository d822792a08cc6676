//! Backends that are killed while they build, fill or vacuum an index. The server recovers from its
//! log; the index must be sound afterwards, find as much as before, and take further rows.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgclip_cluster::{Cluster, Process};
use pgclip_tests::value;
use pgclip_tests::vectors::{
    COSINE, Clusters, Dice, append, ensure_whole, faults, fill, make_tables, recall_at, start_quiet,
};
use postgres::Client;

/// Kills a backend as a crash would, while or after `work` runs in it, and waits until the server
/// has recovered. `moment` says when, seen from another session: true means now. Says whether the
/// work was still under way.
fn kill_during(
    cluster: &Cluster,
    mut session: Client,
    work: impl FnOnce(&mut Client) -> Result<()> + Send,
    mut moment: impl FnMut(&mut Client) -> Result<bool>,
) -> Result<(bool, Client)> {
    let pid: i32 = value(&mut session, "SELECT pg_backend_pid()")?;
    let mut observer = cluster.connect()?;
    let recovered = "database system is ready to accept connections";
    let before = cluster.log().matches(recovered).count();
    let cut = std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let done = work(&mut session);
            (done, session)
        });
        let waited =
            cluster.wait_for("the moment", || Ok(working.is_finished() || moment(&mut observer)?));
        Process { pid: pid as u32, name: "postgres".into() }.signal(libc::SIGKILL);
        let (done, _session) = working.join().expect("the thread does not panic");
        waited.map(|()| done.is_err())
    })?;
    cluster.wait_for("the recovery", || {
        Ok(cluster.log().matches(recovered).count() > before && cluster.connect().is_ok())
    })?;
    let log = cluster.log();
    for bad in
        ["PANIC", "invalid page", "incorrect resource manager data", "WAL contains references"]
    {
        ensure!(!log.contains(bad), "{bad} in the server's log:\n{log}");
    }
    Ok((cut, cluster.connect()?))
}

/// A moment so long after the first look.
fn after(time: Duration) -> impl FnMut(&mut Client) -> Result<bool> {
    let start = std::time::Instant::now();
    move |_| Ok(start.elapsed() >= time)
}

/// Unreachable elements are what a crash may leave behind: records of rows whose transaction is
/// lost, written and not linked yet. A vacuum takes them out with their rows. Nothing else may be
/// wrong, and nothing at all after the vacuum.
fn ensure_explained(client: &mut Client) -> Result<()> {
    let faults = faults(client, "i")?;
    let other: Vec<&String> =
        faults.iter().filter(|fault| !fault.contains("unreachable")).collect();
    ensure!(other.is_empty(), "{other:#?}");
    println!("{} unreachable", faults.len());
    client.batch_execute("VACUUM t")?;
    ensure_whole(client, COSINE, "i")
}

/// As good as a fresh build, and open to further rows.
fn ensure_useful(client: &mut Client, clusters: &mut Clusters) -> Result<()> {
    append(client, &clusters.take(200))?;
    ensure_whole(client, COSINE, "i")?;
    // One slack for both: what differs is the graph.
    client.batch_execute("SET pgclip.search_slack = 0.2")?;
    let recall = recall_at(client, COSINE, 10, "true")?;
    client.batch_execute(
        "SET max_parallel_maintenance_workers = 0; REINDEX INDEX i;
         RESET max_parallel_maintenance_workers",
    )?;
    let fresh = recall_at(client, COSINE, 10, "true")?;
    println!("recall {recall:.4}, fresh {fresh:.4}");
    ensure!(recall >= fresh - 0.01, "{recall} after crashes, {fresh} after a fresh build");
    Ok(())
}

/// A build that dies leaves no index, in whatever phase; one that has just returned must be in the
/// log, since none of its pages need be on disk.
#[test]
fn a_build_that_is_killed_leaves_no_index() -> Result<()> {
    let (cluster, mut client) = start_quiet("killed_build")?;
    let mut clusters = Clusters::new(21, 48, 50);
    make_tables(&mut client, &mut clusters, 8000)?;
    let create = "CREATE INDEX i ON t USING clip_hnsw (v, f) WITH (ef_construction = 200)";
    let phases = [
        ("64MB", "loading vectors"),
        ("64MB", "building graph in memory"),
        ("64MB", "writing pages"),
        ("1MB", "inserting into pages"),
    ];
    for (memory, phase) in phases {
        client.batch_execute("CHECKPOINT")?;
        let (cut, session) = kill_during(
            &cluster,
            client,
            |session| {
                session.batch_execute(&format!("SET maintenance_work_mem = '{memory}'"))?;
                Ok(session.batch_execute(create)?)
            },
            |observer| {
                let now = "SELECT coalesce((SELECT phase FROM pg_stat_progress_create_index), '')";
                Ok(value::<String>(observer, now)?.ends_with(phase))
            },
        )?;
        client = session;
        let there: i64 = value(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'i'")?;
        println!("{phase}: killed {}", if cut { "during the build" } else { "after it" });
        if cut {
            ensure!(there == 0, "an index that was never made is there");
        } else {
            ensure_whole(&mut client, COSINE, "i")?;
            client.batch_execute("DROP INDEX i")?;
        }
    }
    let (cut, session) = kill_during(
        &cluster,
        client,
        |session| {
            session.batch_execute(create)?;
            Ok(session.batch_execute("SELECT pg_sleep(60)")?)
        },
        |observer| {
            let here = "SELECT count(*) > 0 FROM pg_class WHERE relname = 'i'";
            value(observer, here)
        },
    )?;
    ensure!(cut);
    client = session;
    ensure_whole(&mut client, COSINE, "i")?;
    ensure_useful(&mut client, &mut clusters)
}

/// An insert is some dozens of changes, each a record of its own in the log. Wherever the log ends,
/// the graph must be sound, whole, and of use.
#[test]
fn inserts_that_are_killed_leave_a_sound_index() -> Result<()> {
    let (cluster, mut client) = start_quiet("killed_inserts")?;
    let mut clusters = Clusters::new(22, 32, 50);
    make_tables(&mut client, &mut clusters, 800)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let mut dice = Dice::new(23);
    for round in 0..8 {
        if dice.below(2) == 0 {
            client.batch_execute("CHECKPOINT")?;
        }
        let mut first: i64 = value(&mut client, "SELECT max(id) + 1 FROM t")?;
        // Some vectors come twice, some are there already, most are new.
        let mut vectors = clusters.take(40);
        vectors.extend_from_within(..10);
        let per_statement = 1 + dice.below(30);
        let (cut, session) = kill_during(
            &cluster,
            client,
            |session| loop {
                vectors.extend(clusters.take(20));
                let from = vectors.len() - per_statement.min(vectors.len());
                fill(session, "t", first, &vectors[from..])?;
                first += per_statement as i64;
            },
            after(Duration::from_millis(10 + dice.below(400) as u64)),
        )?;
        ensure!(cut);
        client = session;
        let rows: i64 = value(&mut client, "SELECT count(*) FROM t")?;
        println!("round {round}: {rows} rows");
        ensure_explained(&mut client)?;
    }
    ensure_useful(&mut client, &mut clusters)
}

/// A vacuum marks, repairs and frees. Wherever it dies, the next one goes on, and no row is lost.
#[test]
fn vacuums_that_are_killed_leave_a_sound_index() -> Result<()> {
    let (cluster, mut client) = start_quiet("killed_vacuum")?;
    let mut clusters = Clusters::new(24, 32, 50);
    make_tables(&mut client, &mut clusters, 4000)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let mut dice = Dice::new(25);
    let mut cuts = 0;
    for round in 0..8 {
        let first: i64 = value(&mut client, "SELECT max(id) + 1 FROM t")?;
        fill(&mut client, "t", first, &clusters.take(600))?;
        client.batch_execute(&format!("DELETE FROM t WHERE (id + {round}) % 5 = 0"))?;
        if dice.below(2) == 0 {
            client.batch_execute("CHECKPOINT")?;
        }
        let (cut, session) = kill_during(
            &cluster,
            client,
            |session| {
                session.batch_execute("VACUUM t")?;
                session.batch_execute("SELECT pg_sleep(60)")?;
                Ok(())
            },
            after(Duration::from_millis(dice.below(250) as u64)),
        )?;
        cuts += usize::from(cut);
        client = session;
        // All that is alive comes out, whatever the graph's dead parts are like.
        let rows: i64 = value(&mut client, "SELECT count(*) FROM t")?;
        let query = "(SELECT v FROM queries LIMIT 1)";
        let drained = pgclip_tests::vectors::drained(&mut client, COSINE, query)?;
        ensure!(drained == rows, "round {round}: {drained} of {rows} rows before the next vacuum");
        let recall = recall_at(&mut client, COSINE, 10, "true")?;
        println!("round {round}: recall {recall:.4}");
        if round % 2 == 0 {
            ensure_explained(&mut client)?;
        }
    }
    ensure!(cuts > 0);
    client.batch_execute("VACUUM t")?;
    let dead: i64 = value(&mut client, "SELECT dead FROM clip_index_stats('i')")?;
    ensure!(dead == 0, "{dead} elements are still dead");
    ensure_whole(&mut client, COSINE, "i")?;
    ensure_useful(&mut client, &mut clusters)
}

/// With as little log as there can be, what a transaction writes to relations that it made itself is
/// not logged but synchronised at its end.
#[test]
fn a_commit_with_a_minimal_log_survives() -> Result<()> {
    let builder = Cluster::builder("minimal_log")
        .setting("autovacuum", "off")
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", 0)
        .setting("wal_skip_threshold", 0);
    let (cluster, mut client) = pgclip_tests::start(&builder)?;
    let mut clusters = Clusters::new(26, 24, 30);
    client.batch_execute("BEGIN")?;
    make_tables(&mut client, &mut clusters, 500)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    append(&mut client, &clusters.take(300))?;
    client.batch_execute("DELETE FROM t WHERE id % 9 = 0; COMMIT")?;
    cluster.kill()?;
    cluster.start()?;
    client = cluster.connect()?;
    ensure_whole(&mut client, COSINE, "i")?;
    append(&mut client, &clusters.take(100))?;
    client.batch_execute("BEGIN; TRUNCATE t")?;
    append(&mut client, &clusters.take(200))?;
    client.batch_execute("COMMIT")?;
    append(&mut client, &clusters.take(100))?;
    cluster.kill()?;
    cluster.start()?;
    client = cluster.connect()?;
    ensure_useful(&mut client, &mut clusters)
}
