//! Conditions that 50 %, 10 %, 1 % and 0.1 % of the rows meet, on a column that has nothing to do
//! with the vectors and on one that goes with them.
//!
//! Ours knows the columns as filter columns of its index (phase `filter_10`), or not
//! (`filter_10_plain`), against pgvector's iterative scans and a B-tree on the column with an exact
//! sort. `filter_10_planner` has our index and B-trees on one table, and the planner decides. The
//! conditions are constants, so that the planner knows how many rows meet them.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bench::{K, Run};
use crate::curve::{Sample, rate_at};
use crate::data::FILTER_VALUES;
use crate::exact::{Judge, Truth};
use crate::phases::build;
use crate::report::Better;
use crate::server;
use crate::side::{Setting, Side};
use crate::sweep::{Lane, Point, Sweep};
use crate::work::{Single, parameters};

/// Name, and the bound below which rows pass.
const SHARES: [(&str, i32); 4] = [("50", 500), ("10", 100), ("1", 10), ("0.1", 1)];
/// The columns: which, what is added to the phase's name.
const COLUMNS: [(&str, &str); 2] = [("a", ""), ("b", "_correlated")];
const QUERIES: usize = 100;
/// Ours with both columns.
const OURS: &str = "pgclip_filter";
const BTREE: &str = "btree_filter";
/// The recall at which ratios are taken.
const TARGET: f64 = 0.95;

/// All shares of both columns.
pub fn run(run: &mut Run) -> Result<()> {
    prepare(run)?;
    let mut many = run.data.own.clone();
    many.truncate(QUERIES);
    let mut few = many.clone();
    few.truncate(QUERIES / 2);
    let mut cases = Vec::new();
    for (number, (column, kind)) in COLUMNS.into_iter().enumerate() {
        for (share, below) in SHARES {
            let values = run.filters[number].clone();
            let queries = if below > 10 { &many } else { &few };
            let truth = Truth::find(run.data, queries, run.data.rows(), K, |id| values[id] < below);
            let judge = Judge { data: run.data, queries, truth, k: K };
            cases.push((
                format!("filter_{share}"),
                kind,
                format!("WHERE {column} < {below}"),
                judge,
            ));
        }
    }
    for (phase, kind, condition, judge) in &cases {
        contend(run, phase, kind, condition, judge)?;
    }
    if run.sides().contains(&Side::Pgclip) {
        let mut client = run.session()?;
        client.batch_execute(&format!(
            "CREATE INDEX ON {OURS} (a); CREATE INDEX ON {OURS} (b); ANALYZE {OURS}"
        ))?;
        for (phase, kind, condition, judge) in &cases {
            let phase = format!("{phase}_planner{kind}");
            let work = work(run, OURS, condition, judge)?;
            let settings = vec![Side::Pgclip.default_setting()];
            let mut lanes = [Lane { extension: "pgclip", settings, work: Box::new(work) }];
            measure(run, &phase, judge, &mut lanes)?;
        }
    }
    let mut client = run.session()?;
    client.batch_execute(&format!("DROP TABLE IF EXISTS {OURS}, {BTREE}"))?;
    Ok(())
}

/// The table of ours whose index has filter columns, and the one with B-trees alone.
fn prepare(run: &mut Run) -> Result<()> {
    let mut client = run.session()?;
    let (sides, storage) = (run.sides(), run.bench.arguments.storage);
    if sides.contains(&Side::Pgclip) {
        server::load(&mut client, Side::Pgclip, OURS, run.data, &run.filters, storage)?;
        server::warm(&mut client, OURS)?;
        let seconds = build::create(run, &mut client, Side::Pgclip, OURS, ", a, b")?;
        let bytes = build::bytes(&mut client, &format!("{OURS}_index"))?;
        println!(
            "--> filter: pgclip's index with two filter columns: {seconds:.1} s, {bytes} bytes"
        );
    }
    let side = if sides.contains(&Side::Pgvector) { Side::Pgvector } else { Side::Pgclip };
    server::load(&mut client, side, BTREE, run.data, &run.filters, storage)?;
    server::warm(&mut client, BTREE)?;
    client.batch_execute(&format!("CREATE INDEX ON {BTREE} (a); CREATE INDEX ON {BTREE} (b)"))?;
    Ok(client.batch_execute(&format!("ANALYZE {BTREE}"))?)
}

/// A sweep's settings; fewer for conditions that few rows meet, whose queries take long.
fn settings(side: Side, rare: bool) -> Vec<Setting> {
    match side {
        Side::Pgclip => [0.05, 0.1, 0.15, 0.2, 0.3].map(|slack| side.setting(slack)).to_vec(),
        Side::Pgvector => {
            let mut settings = Vec::new();
            for scan in ["relaxed_order", "strict_order"] {
                let efs: &[f64] = if rare { &[40., 200.] } else { &[20., 40., 100., 200., 400.] };
                for &ef in efs {
                    settings.push(side.setting(ef).and("hnsw.iterative_scan", scan));
                }
            }
            let most = side.setting(200.0).and("hnsw.iterative_scan", "relaxed_order");
            settings.push(most.and("hnsw.max_scan_tuples", "1000000"));
            settings.push(side.setting(40.0).and("hnsw.iterative_scan", "off"));
            settings
        }
    }
}

fn work(run: &Run, table: &str, condition: &str, judge: &Judge) -> Result<Single> {
    let sql = run.select(table, condition, K);
    Single::new(run.session()?, sql, parameters(judge.queries, QUERIES))?.checked()
}

fn measure(
    run: &mut Run,
    phase: &str,
    judge: &Judge,
    lanes: &mut [Lane],
) -> Result<Vec<Vec<Point>>> {
    let sweep = Sweep {
        title: format!("{} queries", judge.queries.len()),
        queries: judge.queries.len(),
        rounds: run.bench.arguments.rounds,
        clock: run.bench.arguments.clock,
        enough: f64::INFINITY,
        targets: &[TARGET],
        judge,
    };
    run.sweep(phase, &sweep, lanes)
}

fn contend(run: &mut Run, phase: &str, kind: &str, condition: &str, judge: &Judge) -> Result<()> {
    let mut lanes = Vec::new();
    let mut tables = BTreeMap::new();
    for side in run.sides() {
        let table = if side == Side::Pgclip { OURS.to_owned() } else { side.table() };
        let work = Box::new(work(run, &table, condition, judge)?);
        let settings = settings(side, judge.queries.len() < QUERIES);
        tables.insert(side, lanes.len());
        lanes.push(Lane { extension: side.name(), settings, work });
    }
    let exact = Setting { name: "B-tree and sort".to_owned(), sql: String::new() };
    let btree = Box::new(work(run, BTREE, condition, judge)?);
    lanes.push(Lane { extension: "btree", settings: vec![exact], work: btree });
    let points = measure(run, &format!("{phase}{kind}"), judge, &mut lanes)?;
    let of = |side| tables.get(&side).map_or(&[][..], |&at: &usize| &points[at][..]);
    let rate = |points: &[Point]| {
        let samples: Vec<Sample> = points.iter().map(Point::sample).collect();
        rate_at(&samples, TARGET)
    };
    let (ours, theirs) = (rate(of(Side::Pgclip)), rate(of(Side::Pgvector)));
    let btree = points.last().and_then(|points| rate(points));
    let suffix = run.suffix.clone();
    let share = phase.trim_start_matches("filter_");
    let which = if kind.is_empty() { "independent" } else { "correlated" };
    let what = format!("queries/s at {TARGET}, {share} % pass, {which}");
    let report = &mut run.bench.report;
    report.compare(&format!("{phase}{kind}{suffix}"), &what, "/s", Better::More, [ours, theirs]);
    let name = format!("{phase}{kind}_btree{suffix}");
    let what = format!("the same, against B-tree and sort, {which}");
    report.compare(&name, &what, "/s", Better::More, [ours, btree]);

    if !run.sides().contains(&Side::Pgclip) {
        return Ok(());
    }
    let plain = work(run, &Side::Pgclip.table(), condition, judge)?;
    let settings = settings(Side::Pgclip, false);
    let mut lanes = [Lane { extension: "pgclip", settings, work: Box::new(plain) }];
    let plain = measure(run, &format!("{phase}_plain{kind}"), judge, &mut lanes)?;
    let name = format!("{phase}_plain{kind}{suffix}");
    let what = format!("queries/s at {TARGET}, {share} % pass, plain, {which}");
    let numbers = [rate(&plain[0]), theirs];
    run.bench.report.compare(&name, &what, "/s", Better::More, numbers);
    Ok(())
}

const _: () = assert!(SHARES[0].1 as usize * 2 == FILTER_VALUES);
