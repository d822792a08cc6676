//! The program behind `make compare`: clip_hnsw and pgvector's hnsw in one private cluster, over the
//! same vectors loaded in the same order, with the same options, asked by the same client.
//!
//! Modules in the order of a run: arguments; vectors ([`data`]) and their exact neighbours
//! ([`exact`]); the cluster ([`server`]) and what differs between the extensions ([`side`]); ways of
//! asking ([`work`]), measured in turns ([`sweep`], [`clock`]) by the [`phases`]; interpolation ([`curve`]) and
//! results ([`report`]).

mod arguments;
mod bench;
mod clock;
mod curve;
mod data;
mod exact;
mod interrupt;
mod phases;
mod report;
mod server;
mod side;
mod sweep;
mod wire;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use pgclip_cluster::workspace;
use postgres::Client;

use crate::arguments::{Arguments, Phase};
use crate::bench::{Bench, Run};
use crate::data::{Data, builtin, generate, npy};
use crate::phases::{
    build, clients, cold, filter, growth, insert, lateral, limit, memory, search, vacuum,
};
use crate::report::Report;
use crate::side::Side;

/// Rows of generated sets.
const ROWS: usize = 100_000;
/// Dimensions of the frames, and what the ratios without a suffix are about.
const DIMS: usize = 384;

/// Which vectors a set has.
#[derive(Clone, Debug)]
enum Source {
    Clustered,
    Frames,
    Growth,
    File(String),
    Builtin,
}

/// A set to measure; dimensions and rows are known only roughly where a file holds them.
struct Set {
    source: Source,
    dims: usize,
    rows: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::watch();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::wait_if_interrupted();
            eprintln!("pgclip-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let started = Instant::now();
    let sets = sets(&arguments)?;
    let sizes: Vec<_> = sets.iter().map(|set| (set.dims, set.rows)).collect();
    println!("==> Start a private PostgreSQL");
    let cluster = Arc::new(server::start(&sizes, arguments.processes())?);
    interrupt::stops(Arc::downgrade(&cluster));
    let mut client = cluster.connect()?;
    let sides = server::extensions(&mut client, &arguments.extensions)?;
    let mut report = Report::new();
    report.about = about(&mut client, &arguments)?;
    drop(client);
    let out = arguments.out.clone().unwrap_or_else(|| workspace().join("target/compare.json"));
    let mut bench = Bench { arguments, cluster, sides, report };
    let mut first = true;
    for set in sets {
        println!("==> {:?}, d = {}", set.source, set.dims);
        let data = make(&mut bench, &set)?;
        println!("    {}", data.title);
        let measured = measure(&mut bench, &data, &set.source, first);
        first = false;
        // After each set, so that a run cut short leaves what it had.
        bench.report.write(&out)?;
        measured?;
    }
    if bench.arguments.wants(Phase::Growth) {
        growth::print(&bench.report, &bench.sides);
    }
    bench.report.print(&bench.sides);
    let table = out.with_extension("md");
    std::fs::write(&table, bench.report.table())
        .with_context(|| format!("cannot write {}", table.display()))?;
    println!(
        "\nWritten to {} and, as a table, to {}; {:.0} s",
        out.display(),
        table.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The sets that have a wanted phase.
fn sets(arguments: &Arguments) -> Result<Vec<Set>> {
    let rows = arguments.rows.unwrap_or(ROWS);
    let phases: Vec<Phase> = arguments.only.clone();
    let any =
        |wanted: &dyn Fn(Phase) -> bool| phases.is_empty() || phases.iter().any(|&p| wanted(p));
    let mut sets = Vec::new();
    match arguments.vectors.as_deref() {
        Some("builtin") => {
            sets.push(Set { source: Source::Builtin, dims: builtin::DIMS, rows });
        }
        Some(file) => {
            let (all, dims) = npy::shape(Path::new(file))?;
            let rows = rows.min(all);
            sets.push(Set { source: Source::File(file.to_owned()), dims, rows });
        }
        None => {
            if any(&|phase| !matches!(phase, Phase::Frames | Phase::Growth)) {
                let clustered = arguments.dims.iter().map(|&dims| Set {
                    source: Source::Clustered,
                    dims,
                    rows,
                });
                sets.extend(clustered);
            }
            if any(&|phase| matches!(phase, Phase::Frames | Phase::Limit)) {
                sets.push(Set { source: Source::Frames, dims: DIMS, rows });
            }
        }
    }
    if arguments.wants(Phase::Growth) {
        let most = arguments.rows.unwrap_or(usize::MAX);
        let rows = growth::ROWS.into_iter().filter(|&rows| rows <= most);
        sets.extend(rows.map(|rows| Set { source: Source::Growth, dims: growth::DIMS, rows }));
    }
    Ok(sets)
}

fn make(bench: &mut Bench, set: &Set) -> Result<Data> {
    let Arguments { metric, queries, rows, .. } = bench.arguments;
    Ok(match &set.source {
        Source::Clustered => generate::clustered(metric, set.dims, set.rows, queries),
        Source::Growth => generate::clustered(metric, set.dims, set.rows, queries.min(300)),
        Source::Frames => generate::frames(metric, set.dims, set.rows, queries),
        Source::File(file) => {
            let texts = bench.arguments.texts.as_deref().map(Path::new);
            npy::data(Path::new(file), texts, bench.arguments.half, metric, rows, queries)?
        }
        Source::Builtin => builtin::data(&bench.cluster, metric, set.rows, queries)?,
    })
}

/// All wanted phases of one set. Those that change the tables come last.
fn measure(bench: &mut Bench, data: &Data, source: &Source, first: bool) -> Result<()> {
    let (prefix, suffix) = match source {
        Source::Frames => ("frames", String::new()),
        Source::Growth => ("growth", format!("_r{}", data.rows())),
        _ if first => ("", String::new()),
        _ => ("", format!("_d{}", data.dims())),
    };
    let filters = [data.independent(), data.correlated()];
    let chosen = BTreeMap::new();
    let mut run = Run { bench, data, prefix, suffix, filters, chosen };
    if prefix == "growth" {
        build::run(&mut run, 1)?;
        return search::own(&mut run);
    }
    // The first set has all phases, the others those that depend on the vectors most.
    let builds = if first { run.bench.arguments.rounds.min(2) } else { 1 };
    build::run(&mut run, builds)?;
    if prefix == "frames" {
        if run.wants(Phase::Frames) {
            search::own(&mut run)?;
        }
    } else {
        if run.wants(Phase::Search) {
            search::own(&mut run)?;
        }
        if run.wants(Phase::Text) {
            search::text(&mut run)?;
        }
        if run.wants(Phase::Lateral) {
            lateral::run(&mut run)?;
        }
    }
    let named = |run: &Run, phase| run.bench.arguments.only.contains(&phase);
    let wants = |run: &Run, phase| run.wants(phase) && (first || named(run, phase));
    if prefix.is_empty() && wants(&run, Phase::Memory) {
        memory::run(&mut run)?;
    }
    if prefix.is_empty() && wants(&run, Phase::Clients) {
        clients::run(&mut run)?;
    }
    if wants(&run, Phase::Limit) || (prefix == "frames" && run.wants(Phase::Limit)) {
        limit::run(&mut run)?;
    }
    if prefix.is_empty() && wants(&run, Phase::Filter) {
        filter::run(&mut run)?;
    }
    if prefix.is_empty() && wants(&run, Phase::Cold) {
        cold::run(&mut run)?;
    }
    if prefix.is_empty() && wants(&run, Phase::Insert) {
        insert::run(&mut run)?;
    }
    if prefix.is_empty() && wants(&run, Phase::Vacuum) {
        vacuum::run(&mut run)?;
    }
    let mut client = run.session()?;
    for side in run.sides() {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {}", side.table()))?;
    }
    Ok(())
}

/// What ran where.
fn about(client: &mut Client, arguments: &Arguments) -> Result<BTreeMap<String, String>> {
    let mut about = BTreeMap::new();
    let version: String = client.query_one("SHOW server_version", &[])?.get(0);
    about.insert("PostgreSQL".to_owned(), version);
    for side in Side::ALL {
        let found = client.query_opt(
            "SELECT extversion FROM pg_extension WHERE extname = $1",
            &[&side.extension()],
        )?;
        if let Some(found) = found {
            about.insert(side.name().to_owned(), found.get(0));
        }
    }
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    if let Some(model) = model {
        let model = model.trim_start_matches(['\t', ':', ' ']).to_owned();
        about.insert("processor".to_owned(), model);
    }
    about.insert("processes".to_owned(), arguments.processes().to_string());
    let clock = format!("{:?}", arguments.clock).to_lowercase();
    about.insert("clock".to_owned(), clock);
    about.insert("kernels".to_owned(), pgclip_simd::level().name().to_owned());
    for (name, value) in &about {
        println!("    {name}: {value}");
    }
    Ok(about)
}
