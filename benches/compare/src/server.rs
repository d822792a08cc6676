//! The private cluster: its settings, which are the same for both extensions, its sessions, and the
//! tables, loaded in the same order.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use pgclip_cluster::Cluster;
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::{ToSql, Type};

use crate::data::{Data, Vectors};
use crate::side::Side;
use crate::wire::{Json, Vector};

/// Where wide vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// Out of line past two kilobytes, as both types have it by themselves
    External,
    /// In the row, as far as a page holds it
    Main,
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Main => "main",
        }
    }
}

const MEGABYTE: u64 = 1 << 20;

/// `maintenance_work_mem` that holds the graph of either extension, in bytes: vectors twice, the
/// codes of 32 neighbours, and a kilobyte more a row.
pub fn build_memory(dims: usize, rows: usize) -> u64 {
    let row = 4 * dims + 32 * (27 + dims / 8) + 1024;
    ((rows * row) as u64).max(128 * MEGABYTE).next_multiple_of(MEGABYTE)
}

/// `shared_buffers` that hold all tables and indexes of a set, in bytes.
pub fn buffers(dims: usize, rows: usize) -> u64 {
    let heap = 2 * dims + 250;
    let theirs = 2 * dims + 500;
    let ours = (2 * dims + 32 * (12 + dims / 8) + 200).next_power_of_two().max(1024);
    // Two tables, and two more with one more index of ours for filters.
    ((rows * (4 * heap + theirs + 2 * ours)) as u64 + 64 * MEGABYTE).next_multiple_of(MEGABYTE)
}

/// Starts the cluster, with buffers for the largest of `sets` (dimensions and rows).
pub fn start(sets: &[(usize, usize)], processes: usize) -> Result<Cluster> {
    let most = |size: fn(usize, usize) -> u64| {
        sets.iter().map(|&(dims, rows)| size(dims, rows)).max().unwrap_or(128 * MEGABYTE)
    };
    let (mut buffers, memory) = (most(buffers), most(build_memory));
    let third = total_memory().map_or(buffers, |total| total / 3);
    if buffers > third {
        println!(
            "    {} MB of shared buffers would hold everything; taking {} MB, a third of the memory",
            buffers / MEGABYTE,
            third / MEGABYTE
        );
        buffers = third;
    }
    // pgvector's parallel build takes all of maintenance_work_mem as shared memory at once.
    let shared =
        if free_space(Path::new("/dev/shm")) > memory + memory / 8 { "posix" } else { "sysv" };
    Cluster::builder("compare")
        .preload(true)
        .setting("shared_buffers", format!("{}MB", buffers / MEGABYTE))
        .setting("dynamic_shared_memory_type", shared)
        .setting("max_worker_processes", processes + 8)
        .setting("max_parallel_workers", processes + 8)
        .setting("max_connections", 40)
        .setting("autovacuum", "off")
        .setting("max_wal_size", "64GB")
        .setting("checkpoint_timeout", "1h")
        .setting("effective_cache_size", format!("{}MB", 2 * buffers / MEGABYTE))
        .start()
}

fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Bytes free in a file system; 0 where that is not known.
fn free_space(path: &Path) -> u64 {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else { return 0 };
    // SAFETY: statvfs is plain numbers, for which zeros are values.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte and `found` can be written.
    let done = unsafe { libc::statvfs(path.as_ptr(), &mut found) };
    if done == 0 { found.f_bavail as u64 * found.f_frsize as u64 } else { 0 }
}

/// A session as all measurements use it: one plan for all executions, without parallel workers, and
/// no reading of whole tables, so that neither planning nor workers enter a comparison of indexes.
pub fn session(cluster: &Cluster) -> Result<Client> {
    let mut client = cluster.connect()?;
    client.batch_execute(
        "SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0;
         SET jit = off; SET enable_memoize = off; SET enable_seqscan = off;
         SET client_min_messages = error",
    )?;
    Ok(client)
}

/// Creates the extensions; those of `wanted` that are there and have an index.
pub fn extensions(client: &mut Client, wanted: &[Side]) -> Result<Vec<Side>> {
    let mut found = Vec::new();
    for &side in wanted {
        let name = side.extension();
        let known = client.query_one(
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)",
            &[&name],
        )?;
        if !known.get::<_, bool>(0) {
            println!("*** {side} is left out: the server has no extension {name}");
            continue;
        }
        client.batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS {name}"))?;
        let method = side.method();
        let known = client
            .query_one("SELECT EXISTS (SELECT FROM pg_am WHERE amname = $1)", &[&method])?
            .get(0);
        if known {
            found.push(side);
        } else {
            println!("*** {side} is left out: it has no access method {method} yet");
        }
    }
    ensure!(!found.is_empty(), "there is nothing to measure");
    Ok(found)
}

/// Makes `table` with the base rows and the two filter columns.
pub fn load(
    client: &mut Client,
    side: Side,
    table: &str,
    data: &Data,
    filters: &[Vec<i32>; 2],
    storage: Storage,
) -> Result<()> {
    let kind = side.vector_type();
    // parallel_workers: wide vectors lie out of line, and the planner, which looks at the main part
    // alone, would build such a table's index with one process.
    client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {table};
         CREATE TABLE {table} (id bigint, v {kind}({}), a int, b int)
             WITH (autovacuum_enabled = off, parallel_workers = 64);
         ALTER TABLE {table} ALTER v SET STORAGE {}",
        data.dims(),
        storage.name()
    ))?;
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)"))?;
    let types = [Type::INT8, Type::BYTEA, Type::INT4, Type::INT4];
    let mut writer = BinaryCopyInWriter::new(sink, &types);
    for (id, vector) in data.base.iter().enumerate() {
        let (a, b) = (filters[0][id], filters[1][id]);
        writer.write(&[&(id as i64), &Vector::new(vector), &a, &b])?;
    }
    writer.finish().with_context(|| format!("COPY {table}"))?;
    client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {table}"))?;
    Ok(())
}

/// Makes `table` with queries: their numbers and vectors, in line however wide, since the executor
/// fetches an out-of-line one anew for each row that it returns.
pub fn load_queries(client: &mut Client, side: Side, table: &str, queries: &Vectors) -> Result<()> {
    let kind = side.vector_type();
    client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int, v {kind}({}));
         ALTER TABLE {table} ALTER v SET STORAGE main",
        queries.dims
    ))?;
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)"))?;
    let mut writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::BYTEA]);
    for (id, vector) in queries.iter().enumerate() {
        writer.write(&[&(id as i32), &Vector::new(vector)])?;
    }
    writer.finish().with_context(|| format!("COPY {table}"))?;
    client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {table}"))?;
    Ok(())
}

/// Reads a relation, and its out-of-line values, into the buffers.
pub fn warm(client: &mut Client, relation: &str) -> Result<()> {
    client.batch_execute(&format!(
        "CREATE EXTENSION IF NOT EXISTS pg_prewarm;
         SELECT pg_prewarm('{relation}'),
                (SELECT pg_prewarm(reltoastrelid) FROM pg_class
                  WHERE oid = '{relation}'::regclass AND reltoastrelid <> 0)"
    ))?;
    Ok(())
}

/// The plan of `statement` as EXPLAIN gives it, with `options` (`ANALYZE, BUFFERS`).
pub fn explain(
    client: &mut Client,
    options: &str,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<serde_json::Value> {
    let statement = format!("EXPLAIN ({options} FORMAT json) {statement}");
    let row = client.query_one(&statement, parameters).with_context(|| statement.clone())?;
    Ok(row.get::<_, Json>(0).0[0]["Plan"].take())
}

fn has_index(plan: &serde_json::Value) -> bool {
    let inside = plan["Plans"].as_array().is_some_and(|plans| plans.iter().any(has_index));
    plan["Index Name"].is_string() || inside
}

/// Buffers that running `statement` touches: all, and those of them that were read. Fails where no
/// index answers.
pub fn touched(
    client: &mut Client,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<(f64, f64)> {
    let plan = explain(client, "ANALYZE, BUFFERS, TIMING off,", statement, parameters)?;
    ensure!(has_index(&plan), "no index is used for {statement}\n{plan:#}");
    let read = plan["Shared Read Blocks"].as_f64().context("no blocks in EXPLAIN")?;
    let hit = plan["Shared Hit Blocks"].as_f64().context("no blocks in EXPLAIN")?;
    Ok((hit + read, read))
}

/// Fails, with the plan, where `statement` is not answered by an index.
pub fn demand_index(
    client: &mut Client,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<()> {
    let plan = explain(client, "", statement, parameters)?;
    ensure!(has_index(&plan), "no index is used for {statement}\n{plan:#}");
    Ok(())
}
