//! Memory of the process that builds: its private memory at the highest, with a
//! `maintenance_work_mem` that holds the graph and with one that does not. pgvector builds in one
//! process here, since with several its graph lies in shared memory, which cannot be told from the
//! shared buffers.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::Run;
use crate::phases::build::{EF_CONSTRUCTION, M};
use crate::report::{Better, Entry, short};
use crate::server;
use crate::side::Side;

/// Builds each index twice more.
pub fn run(run: &mut Run) -> Result<()> {
    let enough = server::build_memory(run.data.dims(), run.data.rows()) >> 20;
    let suffix = run.suffix.clone();
    for (name, megabytes) in [("memory", enough), ("memory_low", 64)] {
        println!("--> {name}: builds with maintenance_work_mem = {megabytes} MB");
        let mut peaks = [None; 2];
        for side in run.sides() {
            let (seconds, peak) = build(run, side, megabytes)?;
            println!(
                "    {side:<9} {seconds:.1} s, at most {} MB of its own: {:.0} % of the setting",
                short(peak as f64 / 1e6),
                peak as f64 / (megabytes << 20) as f64 * 100.0
            );
            let entry = Entry {
                setting: format!("maintenance_work_mem={megabytes}MB"),
                seconds: Some(seconds),
                bytes: Some(peak),
                ..run.entry(side.name(), name)
            };
            run.bench.report.results.push(entry);
            peaks[usize::from(side == Side::Pgvector)] = Some(peak as f64 / 1e6);
        }
        let what = format!("peak of a build with {megabytes} MB");
        run.bench.report.compare(&format!("{name}{suffix}"), &what, "MB", Better::Less, peaks);
    }
    Ok(())
}

/// Builds a second index of a side's table, and drops it; seconds, and bytes at the highest.
fn build(run: &Run, side: Side, megabytes: u64) -> Result<(f64, u64)> {
    let mut client = run.session()?;
    let workers = match side {
        Side::Pgclip => run.bench.arguments.processes() - 1,
        Side::Pgvector => 0,
    };
    client.batch_execute(&format!(
        "SET maintenance_work_mem = '{megabytes}MB'; SET max_parallel_maintenance_workers = {workers}"
    ))?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = private(pid);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(private(pid), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let built = client.batch_execute(&format!(
            "CREATE INDEX {side}_memory ON {} USING {} (v {}) WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})",
            side.table(),
            side.method(),
            side.opclass(run.data.metric)
        ));
        done.store(true, Ordering::Relaxed);
        built
    })?;
    let seconds = started.elapsed().as_secs_f64();
    client.batch_execute(&format!("DROP INDEX {side}_memory"))?;
    Ok((seconds, peak.into_inner().saturating_sub(before)))
}

/// Bytes of a process's private memory that are in use.
fn private(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
