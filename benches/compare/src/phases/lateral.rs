//! The queries of `search` and `text` inside one statement, where no statement overhead hides the
//! index.

use anyhow::Result;

use super::{ENOUGH, TARGETS};
use crate::bench::{K, Run};
use crate::data::Vectors;
use crate::server;
use crate::side::Side;
use crate::sweep::{Lane, Sweep};
use crate::work::Lateral;

/// Both sets of queries.
pub fn run(run: &mut Run) -> Result<()> {
    let data = run.data;
    measure(run, "lateral", &data.own)?;
    match &data.text {
        Some(queries) => measure(run, "lateral_text", queries),
        None => Ok(()),
    }
}

fn measure(run: &mut Run, phase: &str, queries: &Vectors) -> Result<()> {
    let count = queries.len().div_ceil(2);
    let judge = run.judge(run.data, queries, K)?;
    let mut lanes = Vec::new();
    for side in run.sides() {
        let mut client = run.session()?;
        let table = format!("{side}_{phase}_queries");
        server::load_queries(&mut client, side, &table, queries)?;
        server::warm(&mut client, &table)?;
        let operator = run.data.metric.operator();
        let work = Box::new(Lateral::new(client, &side.table(), &table, operator, K)?);
        lanes.push(Lane { extension: side.name(), settings: side.sweep(), work });
    }
    let sweep = Sweep {
        title: format!("{count} queries, 50 in a statement"),
        queries: count,
        rounds: run.bench.arguments.rounds,
        clock: run.bench.arguments.clock,
        enough: ENOUGH,
        targets: &TARGETS,
        judge: &judge,
    };
    let points = run.sweep(phase, &sweep, &mut lanes)?;
    let both = Side::ALL.map(|side| run.of(side, &lanes, &points));
    for target in TARGETS {
        run.compare_at(phase, target, both);
    }
    Ok(())
}
