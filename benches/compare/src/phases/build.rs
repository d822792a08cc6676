//! Loading, and building the indexes: seconds and bytes. The extensions take turns, round by round;
//! the last round's indexes are those that all other phases search.

use std::collections::BTreeMap;

use anyhow::Result;
use postgres::Client;

use crate::arguments::Phase;
use crate::bench::Run;
use crate::curve::{median, spread};
use crate::report::{Better, Entry, short};
use crate::server;
use crate::side::Side;

/// Both documentations' defaults.
pub const M: usize = 16;
pub const EF_CONSTRUCTION: usize = 64;

/// Creates the index over `columns` of `table` anew; the seconds it took.
pub fn create(run: &Run, client: &mut Client, side: Side, table: &str, more: &str) -> Result<f64> {
    let processes = run.bench.arguments.processes();
    let memory = server::build_memory(run.data.dims(), run.data.rows()) >> 20;
    let opclass = side.opclass(run.data.metric);
    let method = side.method();
    client.batch_execute(&format!(
        "DROP INDEX IF EXISTS {table}_index; SET maintenance_work_mem = '{memory}MB';
         SET max_parallel_maintenance_workers = {}",
        processes - 1
    ))?;
    client.batch_execute("CHECKPOINT")?;
    let statement = format!(
        "CREATE INDEX {table}_index ON {table} USING {method} (v {opclass}{more})
         WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
    );
    // The index takes the texts' mean direction from the model of its column.
    let model = run.model().filter(|_| side == Side::Pgclip);
    if let Some(model) = model {
        let model = model.register(client)?;
        client.batch_execute(&format!(
            "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS image bytea;
             SELECT clip_attach('{table}', image => 'image', embedding => 'v', model => '{model}')"
        ))?;
    }
    let clock = run.bench.arguments.clock;
    let seconds = clock.time_maintenance(&run.bench.cluster, client, &statement)?;
    if model.is_some() {
        // Else inserts would be those of a trigger.
        client.batch_execute(&format!("SELECT clip_detach('{table}', embedding => 'v')"))?;
    }
    server::warm(client, &format!("{table}_index"))?;
    Ok(seconds)
}

/// Bytes of a relation.
pub fn bytes(client: &mut Client, relation: &str) -> Result<u64> {
    let bytes: i64 =
        client.query_one(&format!("SELECT pg_relation_size('{relation}')"), &[])?.get(0);
    Ok(bytes as u64)
}

/// Loads the tables and builds their indexes, `rounds` times if that is to be measured.
pub fn run(run: &mut Run, rounds: usize) -> Result<()> {
    let storage = run.bench.arguments.storage;
    let mut clients = Vec::new();
    for side in run.sides() {
        let mut client = run.session()?;
        server::load(&mut client, side, &side.table(), run.data, &run.filters, storage)?;
        server::warm(&mut client, &side.table())?;
        clients.push((side, client));
    }
    let timed = run.wants(Phase::Build) || run.prefix == "growth";
    let rounds = if timed { rounds } else { 1 };
    println!(
        "--> {}: m = {M}, ef_construction = {EF_CONSTRUCTION}, {} processes, \
         maintenance_work_mem = {} MB",
        run.name("build"),
        run.bench.arguments.processes(),
        server::build_memory(run.data.dims(), run.data.rows()) >> 20
    );
    let mut seconds: BTreeMap<Side, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (side, client) in &mut clients {
            let took = create(run, client, *side, &side.table(), "")?;
            println!("    {side:<9} {took:.1} s");
            seconds.entry(*side).or_default().push(took);
        }
    }
    let mut sizes = BTreeMap::new();
    for (side, client) in &mut clients {
        let bytes = bytes(client, &format!("{}_index", side.table()))?;
        println!("    {side:<9} {} MB", short(bytes as f64 / 1e6));
        sizes.insert(*side, bytes);
        if timed {
            let entry = Entry {
                setting: format!("m={M} ef_construction={EF_CONSTRUCTION}"),
                seconds: Some(median(&seconds[side])),
                per_second: Some(run.data.rows() as f64 / median(&seconds[side])),
                bytes: Some(bytes),
                spread: spread(&seconds[side]),
                ..run.entry(side.name(), &run.name("build"))
            };
            run.bench.report.results.push(entry);
        }
        if run.wants(Phase::Size) {
            let setting = format!("m={M}");
            let phase = run.name("size");
            let entry = Entry { setting, bytes: Some(bytes), ..run.entry(side.name(), &phase) };
            run.bench.report.results.push(entry);
        }
    }
    let suffix = run.suffix.clone();
    let (rows, dims) = (run.data.rows(), run.data.dims());
    if timed {
        let numbers = Side::ALL.map(|side| seconds.get(&side).map(|seconds| median(seconds)));
        let what = format!("build of {rows} rows, d = {dims}");
        let name = format!("{}{suffix}", run.name("build"));
        run.bench.report.compare(&name, &what, "s", Better::Less, numbers);
    }
    if run.wants(Phase::Size) {
        let numbers = Side::ALL.map(|side| sizes.get(&side).map(|&bytes| bytes as f64 / 1e6));
        let what = format!("index of {rows} rows, d = {dims}");
        let name = format!("{}{suffix}", run.name("size"));
        run.bench.report.compare(&name, &what, "MB", Better::Less, numbers);
    }
    Ok(())
}
