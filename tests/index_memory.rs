//! The memory that scans and builds of an index take: bounded by their settings, and given back.

use std::fs;

use anyhow::{Context, Result, ensure};
use pgclip_tests::value;
use pgclip_tests::vectors::{
    COSINE, Clusters, append, connect_listening, ensure_whole, fill, make_tables, start_quiet,
};
use postgres::Client;

/// A process's own memory, without what it shares with others, in kB; none once it has given its
/// memory back to end.
fn memory_of(pid: i32) -> Option<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn own_memory(pid: i32) -> Result<i64> {
    memory_of(pid).context("no RssAnon in /proc/PID/status")
}

/// A scan that is started again ten thousand times, as within a join, must not grow: neither by what
/// it walked through nor by what a query's vector and conditions were turned into.
#[test]
fn scans_started_again_take_no_more_memory() -> Result<()> {
    let (_cluster, mut client) = start_quiet("rescans")?;
    make_tables(&mut client, &mut Clusters::new(91, 384, 30), 800)?;
    client.batch_execute(
        "CREATE INDEX i ON t USING clip_hnsw (v, f); ANALYZE t;
         SET enable_seqscan = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0",
    )?;
    let pid: i32 = value(&mut client, "SELECT pg_backend_pid()")?;
    let many = |client: &mut Client, rounds: usize, condition: &str| -> Result<()> {
        let count = format!(
            "SELECT count(*) FROM generate_series(1, {rounds}) AS s (n) CROSS JOIN queries q
               CROSS JOIN LATERAL (SELECT id FROM t WHERE {condition} ORDER BY t.v <=> q.v LIMIT 3) n"
        );
        let expected = rounds as i64 * 200 * 3;
        ensure!(value::<i64>(client, &count)? == expected);
        Ok(())
    };
    for condition in ["t.f < 90", "t.f = ANY (ARRAY[q.id % 100, 1, 2, 3, 4, 5, 6, 7, 8, 9]::int[])"]
    {
        many(&mut client, 2, condition)?;
        let before = own_memory(pid)?;
        many(&mut client, 50, condition)?;
        let after = own_memory(pid)?;
        println!("{condition}: {before} kB, after 10,000 scans more {after} kB");
        ensure!(after < before + 8_000, "{condition}: {before} kB grew to {after} kB");
    }
    // Statements, too.
    client
        .batch_execute("PREPARE near (embedding) AS SELECT id FROM t ORDER BY v <=> $1 LIMIT 3")?;
    let run = "DO $$ BEGIN FOR n IN 1..5000 LOOP
        PERFORM id FROM t ORDER BY v <=> (SELECT v FROM queries WHERE id = 1 + n % 200) LIMIT 3;
        END LOOP; END $$";
    client.batch_execute(run)?;
    let before = own_memory(pid)?;
    client.batch_execute(run)?;
    let after = own_memory(pid)?;
    println!("{before} kB, after 5,000 statements more {after} kB");
    ensure!(after < before + 8_000, "{before} kB grew to {after} kB");
    Ok(())
}

/// A scan that gives rows up for want of memory says so.
#[test]
fn a_scan_in_little_memory_says_so() -> Result<()> {
    let (cluster, mut client) = start_quiet("little_scan")?;
    let mut clusters = Clusters::new(92, 16, 20);
    make_tables(&mut client, &mut clusters, 200)?;
    append(&mut client, &vec![clusters.draw(); 6000])?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v); ANALYZE t")?;
    let (mut client, notices) = connect_listening(&cluster)?;
    client.batch_execute(
        "SET enable_seqscan = off; SET enable_sort = off; SET pgclip.scan_memory = '64kB'",
    )?;
    let nearest = |limit: usize| {
        format!(
            "SELECT count(*) FROM (
                 SELECT id FROM t ORDER BY v <=> (SELECT v FROM t WHERE id = 201) LIMIT {limit}) n"
        )
    };
    ensure!(value::<i64>(&mut client, &nearest(100))? == 100);
    ensure!(notices.lock().expect("no panic").is_empty(), "{notices:?}");
    let rows: i64 = value(&mut client, &nearest(6000))?;
    let told = notices.lock().expect("no panic").join("\n");
    ensure!(rows < 6000, "{rows} rows were held in 64 kB");
    ensure!(told.contains("WARNING") && told.contains("for want of memory"), "{told}");
    client.batch_execute("RESET pgclip.scan_memory")?;
    ensure!(value::<i64>(&mut client, &nearest(6000))? == 6000);
    Ok(())
}

/// A build stays within `maintenance_work_mem`, a quarter of it, and what its threads need, whether
/// the graph fits or not.
#[test]
fn builds_keep_to_their_memory() -> Result<()> {
    const ROOM: i64 = 24 << 10;
    let (cluster, mut client) = start_quiet("build_memory")?;
    let mut clusters = Clusters::new(93, 128, 30);
    make_tables(&mut client, &mut clusters, 0)?;
    for _ in 0..6 {
        append(&mut client, &clusters.take(2000))?;
    }
    let measure = |megabytes: i64, rows: i64| -> Result<i64> {
        let mut session = cluster.connect()?;
        session.batch_execute(&format!(
            "SET maintenance_work_mem = '{megabytes}MB'; SET max_parallel_maintenance_workers = 1"
        ))?;
        let pid: i32 = value(&mut session, "SELECT pg_backend_pid()")?;
        let before = own_memory(pid)?;
        let create = format!("CREATE INDEX i ON t USING clip_hnsw (v, f) WHERE id <= {rows}");
        let building = std::thread::spawn(move || session.batch_execute(&create));
        // The session ends with the thread, and its server process a moment before or after.
        let mut peak = 0;
        while !building.is_finished() {
            peak = peak.max(memory_of(pid).unwrap_or(0));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        building.join().expect("the thread does not panic")?;
        ensure!(peak > before, "the build was not seen");
        println!("{megabytes} MB for {rows} rows: {} kB more at the peak", peak - before);
        Ok(peak - before)
    };
    for megabytes in [4, 64] {
        let peak = measure(megabytes, 12_000)?;
        let most = megabytes * 1024 * 5 / 4 + ROOM;
        ensure!(peak <= most, "{peak} kB where {most} are allowed");
        client.batch_execute("DROP INDEX i")?;
    }
    fill(&mut client, "t", 1_000_000, &clusters.take(1))?;
    client.batch_execute("CREATE INDEX i ON t USING clip_hnsw (v, f)")?;
    ensure_whole(&mut client, COSINE, "i")
}
