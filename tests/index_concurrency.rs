//! Sessions that insert, update, delete, search and vacuum at once. None may fail, and when they are
//! done the graph must be sound, whole, and as good as a fresh one. What each session does is drawn
//! from a seed (`PGCLIP_SEED`, else a fixed one); how they interleave is not.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::value;
use pgclip_tests::vectors::{
    COSINE, Clusters, Dice, EUCLIDEAN, Each, Metric, Vector, append, ensure_whole, fill,
    make_tables, recall_at, start_quiet,
};
use postgres::Client;

/// How long each storm lasts.
const TIME: Duration = Duration::from_secs(12);

fn seed() -> u64 {
    std::env::var("PGCLIP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(51)
}

/// What the sessions share.
struct Storm<'a> {
    cluster: &'a Cluster,
    metric: Metric,
    clusters: Clusters,
    /// The number of the next row.
    next: AtomicI64,
    over: AtomicBool,
}

impl Storm<'_> {
    /// Runs `step` again and again until the storm is over or a step fails; says how often.
    fn session(
        &self,
        seed: u64,
        mut step: impl FnMut(&mut Client, &mut Dice) -> Result<()>,
    ) -> Result<u64> {
        let mut client = self.cluster.connect()?;
        let mut dice = Dice::new(seed);
        let mut steps = 0;
        while !self.over.load(Ordering::Relaxed) {
            let done = step(&mut client, &mut dice).with_context(|| format!("step {steps}"));
            if done.is_err() {
                self.over.store(true, Ordering::Relaxed);
            }
            done?;
            steps += 1;
        }
        Ok(steps)
    }

    /// Inserts new vectors, equal ones among them, and takes some of its own out again.
    fn writer(&self, seed: u64) -> Result<u64> {
        let mut clusters = self.clusters.clone_with_seed(seed);
        let mut recent: Vec<Vector> = Vec::new();
        self.session(seed, |client, dice| {
            let count = 1 + dice.below(12);
            let from = self.next.fetch_add(count as i64, Ordering::Relaxed);
            let vectors: Vec<Vector> = (0..count)
                .map(|_| match recent.len() {
                    known if known > 0 && dice.below(5) == 0 => recent[dice.below(known)].clone(),
                    _ => clusters.draw(),
                })
                .collect();
            recent.extend(vectors.iter().cloned());
            recent.truncate(50);
            match dice.below(6) {
                // Rolled back: elements of rows that never were.
                0 => {
                    client.batch_execute("BEGIN")?;
                    fill(client, "t", from, &vectors)?;
                    client.batch_execute("ROLLBACK")?;
                }
                _ => fill(client, "t", from, &vectors)?,
            }
            Ok(())
        })
    }

    /// Deletes and updates rows, here and there and whole stretches.
    fn changer(&self, seed: u64) -> Result<u64> {
        self.session(seed, |client, dice| {
            let last = self.next.load(Ordering::Relaxed);
            let at = dice.below(last as usize) as i64;
            let statement = match dice.below(5) {
                0 => format!("DELETE FROM t WHERE id BETWEEN {at} AND {at} + 30"),
                1 => format!("UPDATE t SET f = f + 1 WHERE id BETWEEN {at} AND {at} + 5"),
                2 => format!(
                    "UPDATE t SET v = (SELECT v FROM queries WHERE queries.id = 1 + t.id % 200)
                      WHERE id BETWEEN {at} AND {at} + 5"
                ),
                _ => format!("DELETE FROM t WHERE id BETWEEN {at} AND {at} + 3"),
            };
            // However fast the machine is, there must be rows left to search.
            let rows: i64 = value(client, "SELECT count(*) FROM t")?;
            if rows < 1200 && statement.starts_with("DELETE") {
                return Ok(());
            }
            client.batch_execute(&statement)?;
            Ok(())
        })
    }

    /// Searches: rows must come sorted, and as many as are asked for, where the search's snapshot has
    /// them.
    fn searcher(&self, seed: u64) -> Result<u64> {
        let operator = self.metric.operator;
        self.session(seed, |client, dice| {
            let query = 1 + dice.below(200);
            let limit = [1, 10, 50, 300][dice.below(4)];
            let condition = ["true", "t.f < 50", "t.id % 2 = 0"][dice.below(3)];
            client.batch_execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL enable_indexscan = off",
            )?;
            let there = format!("SELECT count(*) FROM t WHERE {condition}");
            let there: i64 = value(client, &there)?;
            client.batch_execute(
                "SET LOCAL enable_indexscan = on;
                 SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off",
            )?;
            let rows = client.query(
                &format!(
                    "SELECT t.v {operator} q.v FROM t, (SELECT v FROM queries WHERE id = {query} OFFSET 0) q
                      WHERE {condition} ORDER BY t.v {operator} (SELECT v FROM queries WHERE id = {query})
                      LIMIT {limit}"
                ),
                &[],
            )?;
            client.batch_execute("COMMIT")?;
            let distances: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
            ensure!(distances.is_sorted(), "out of order: {distances:?}");
            if there >= limit as i64 {
                ensure!(rows.len() == limit, "{} rows of {limit}, {there} there", rows.len());
            }
            Ok(())
        })
    }

    fn vacuumer(&self, seed: u64) -> Result<u64> {
        self.session(seed, |client, _| {
            client.batch_execute("VACUUM t")?;
            Ok(())
        })
    }
}

fn storm(name: &str, metric: Metric, dims: usize, options: &str) -> Result<()> {
    let (cluster, mut client) = start_quiet(name)?;
    let mut clusters = Clusters::new(seed(), dims, 30);
    make_tables(&mut client, &mut clusters, 2000)?;
    let create = format!("CREATE INDEX i ON t USING clip_hnsw (v {}, f) {options}", metric.class);
    client.batch_execute(&create)?;
    let storm = Storm {
        cluster: &cluster,
        metric,
        clusters,
        next: AtomicI64::new(2001),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| -> Result<()> {
        let storm = &storm;
        let sessions = [
            ("writer", scope.spawn(move || storm.writer(seed() + 1))),
            ("another writer", scope.spawn(move || storm.writer(seed() + 2))),
            ("changer", scope.spawn(move || storm.changer(seed() + 3))),
            ("searcher", scope.spawn(move || storm.searcher(seed() + 4))),
            ("another searcher", scope.spawn(move || storm.searcher(seed() + 5))),
            ("vacuumer", scope.spawn(move || storm.vacuumer(seed() + 6))),
        ];
        let start = Instant::now();
        while start.elapsed() < TIME && !storm.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        storm.over.store(true, Ordering::Relaxed);
        let mut failed = Ok(());
        for (who, session) in sessions {
            match session.join().expect("no session panics").with_context(|| who) {
                Ok(steps) => println!("{who}: {steps} steps"),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    })?;
    // Before the last vacuum nothing may be wrong but what rolled back rows left unreachable.
    let unexplained =
        "SELECT count(*) FROM clip_index_check('i') WHERE fault NOT LIKE 'unreachable%'";
    assert_eq!(value::<i64>(&mut client, unexplained)?, 0);
    client.batch_execute("VACUUM t")?;
    ensure_whole(&mut client, metric, "i")?;
    // One slack for both: what differs is the graph.
    client.batch_execute("SET pgclip.search_slack = 0.2")?;
    let recall = recall_at(&mut client, metric, 10, "true")?;
    client.batch_execute("SET max_parallel_maintenance_workers = 0; REINDEX INDEX i")?;
    let fresh = recall_at(&mut client, metric, 10, "true")?;
    let rows: i64 = value(&mut client, "SELECT count(*) FROM t")?;
    println!("{rows} rows, recall {recall:.4}, fresh {fresh:.4}");
    // Not the same each time, and rows that come while a vacuum is at its work find fewer living
    // neighbours, so it gets more room than other tests give.
    ensure!(recall >= fresh - 0.02, "{recall} after the storm, {fresh} after a fresh build");
    assert!(!cluster.log().contains("all server processes terminated"), "a backend crashed");
    Ok(())
}

#[test]
fn sessions_at_once_harm_nothing_with_inline_codes() -> Result<()> {
    storm("storm", COSINE, 16, "")
}

/// Records of many sizes share pages, so that a place that is freed may be taken by another kind.
#[test]
fn sessions_at_once_harm_nothing_with_many_layers() -> Result<()> {
    // With so few edges the last one that leads to an element may be given to another.
    let metric = Metric { lost: 0.003, ..EUCLIDEAN };
    storm("storm_layers", metric, 8, "WITH (m = 5, ef_construction = 40)")
}

/// All vectors are a few: rows come and go within elements that live on.
#[test]
fn sessions_at_once_that_write_equal_vectors() -> Result<()> {
    let (cluster, mut client) = start_quiet("storm_equal")?;
    let mut clusters = Clusters::new(seed(), 16, 30);
    make_tables(&mut client, &mut clusters, 0)?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    let kinds = clusters.take(12);
    let storm = Storm {
        cluster: &cluster,
        metric: COSINE,
        clusters,
        next: AtomicI64::new(1),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| -> Result<()> {
        let (storm, kinds) = (&storm, &kinds);
        let write = move |seed| {
            storm.session(seed, |client, dice| {
                let count = 1 + dice.below(20);
                let from = storm.next.fetch_add(count as i64, Ordering::Relaxed);
                let vectors: Vec<Vector> =
                    (0..count).map(|_| kinds[dice.below(kinds.len())].clone()).collect();
                fill(client, "t", from, &vectors)?;
                // Nearly all goes again, so that elements die with others' rows under way.
                let gone = format!(
                    "DELETE FROM t WHERE id BETWEEN {from} AND {from} + 19 AND id % 50 <> 7"
                );
                Ok(client.batch_execute(&gone)?)
            })
        };
        let sessions = [
            scope.spawn(move || write(seed() + 1)),
            scope.spawn(move || write(seed() + 2)),
            scope.spawn(move || write(seed() + 3)),
            scope.spawn(move || storm.vacuumer(seed() + 4)),
        ];
        std::thread::sleep(TIME / 2);
        storm.over.store(true, Ordering::Relaxed);
        for session in sessions {
            println!("{} steps", session.join().expect("no session panics")?);
        }
        Ok(())
    })?;
    ensure_whole(&mut client, COSINE, "i")?;
    client.batch_execute("VACUUM t")?;
    ensure_whole(&mut client, COSINE, "i")?;
    client.each("DELETE FROM t; VACUUM t")?;
    ensure_whole(&mut client, COSINE, "i")?;
    let (elements, rows): (i64, i64) = {
        let row = client.query_one("SELECT elements, rows FROM clip_index_stats('i')", &[])?;
        (row.get(0), row.get(1))
    };
    assert_eq!((elements, rows), (0, 0), "elements and rows of a table that is empty");
    Ok(())
}

/// A page that one session had added was the last page to another, which filled it before the first
/// had locked it; the first then made it empty. With records as large as pages each insert adds one.
#[test]
fn sessions_that_add_pages_at_once_lose_none() -> Result<()> {
    let (cluster, mut client) = start_quiet("storm_pages")?;
    let mut clusters = Clusters::new(seed(), 1200, 30);
    make_tables(&mut client, &mut clusters, 0)?;
    client
        .batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f) WITH (ef_construction = 10)")?;
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..6i64)
            .map(|at| {
                let (cluster, mut clusters) = (&cluster, clusters.clone_with_seed(at as u64));
                scope.spawn(move || -> Result<()> {
                    fill(&mut cluster.connect()?, "t", 1 + 1000 * at, &clusters.take(150))
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("no writer panics"))
    })?;
    ensure_whole(&mut client, COSINE, "i")?;
    let (elements, rows): (i64, i64) = {
        let row = client.query_one("SELECT elements, rows FROM clip_index_stats('i')", &[])?;
        (row.get(0), row.get(1))
    };
    assert_eq!((elements, rows), (900, 900));
    Ok(())
}

/// A scan that has read an element's neighbours keeps no hold on them. When they are freed and their
/// places taken by records of other kinds, before it goes on, they are gone and the index is not
/// damaged.
#[test]
fn a_scan_goes_on_where_places_were_taken_by_others() -> Result<()> {
    let (cluster, mut client) = start_quiet("stale_scan")?;
    let mut clusters = Clusters::new(52, 8, 10);
    make_tables(&mut client, &mut clusters, 600)?;
    client.batch_execute(
        "CREATE INDEX i ON t USING clip_hnsw (v) WITH (m = 2, ef_construction = 20);
         DELETE FROM t WHERE id % 3 > 0",
    )?;
    let mut other = cluster.connect()?;
    let rows: i64 = value(&mut client, "SELECT count(*) FROM t")?;
    client.batch_execute(
        "SET enable_seqscan = off; SET enable_sort = off; SET pgclip.iterative_scan = relaxed;
         BEGIN;
         DECLARE c CURSOR FOR
             SELECT id FROM t ORDER BY v <=> (SELECT v FROM queries WHERE id = 1)",
    )?;
    let mut found = client.query("FETCH 5 FROM c", &[])?.len();
    // Rows deleted before the cursor's snapshot are nothing to it, but its walk leads through them.
    other.batch_execute("VACUUM t")?;
    let freed: i64 = value(&mut other, "SELECT elements - rows FROM clip_index_stats('i')")?;
    ensure!(freed == 0, "the vacuum freed nothing: a poor test");
    let new = clusters.take(60);
    for _ in 0..4 {
        append(&mut other, &new)?;
    }
    found += client.query("FETCH ALL FROM c", &[])?.len();
    client.batch_execute("COMMIT")?;
    // Of the ways that led on through the dead some are gone; what counts is that this was no error,
    // and no row came that is not there.
    println!("{found} of {rows} rows");
    ensure!(found as i64 <= rows && found > 5);
    Ok(())
}
