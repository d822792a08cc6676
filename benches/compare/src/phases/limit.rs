//! LIMIT 1, 10, 100 and 1,000 with one setting for all: recall, rows and order.

use anyhow::Result;

use crate::bench::Run;
use crate::data::Vectors;
use crate::side::{Setting, Side};
use crate::sweep::{Lane, Sweep};

const LIMITS: [usize; 4] = [1, 10, 100, 1000];
const QUERIES: usize = 100;

/// All sets of queries that the data has.
pub fn run(run: &mut Run) -> Result<()> {
    let data = run.data;
    if data.frames {
        return measure(run, "limit_frames", &data.own);
    }
    measure(run, "limit", &data.own)?;
    match &data.text {
        Some(queries) => measure(run, "limit_text", queries),
        None => Ok(()),
    }
}

fn settings(side: Side) -> Vec<Setting> {
    match side {
        Side::Pgclip => vec![side.default_setting(), side.setting(0.15)],
        Side::Pgvector => {
            let scans = ["off", "strict_order"];
            let scan = |scan: &&str| {
                let at = |ef| side.setting(ef).and("hnsw.iterative_scan", scan);
                [at(40.0), at(200.0)]
            };
            scans.iter().flat_map(scan).collect()
        }
    }
}

fn measure(run: &mut Run, phase: &str, queries: &Vectors) -> Result<()> {
    let data = run.data;
    let mut queries = queries.clone();
    queries.truncate(QUERIES);
    let most = LIMITS[LIMITS.len() - 1];
    let mut judge = run.judge(data, &queries, most)?;
    for k in LIMITS {
        judge.k = k;
        let mut lanes = Vec::new();
        for side in run.sides() {
            let work = Box::new(run.single(side, &queries, queries.len(), k)?);
            lanes.push(Lane { extension: side.name(), settings: settings(side), work });
        }
        let sweep = Sweep {
            title: format!("LIMIT {k}"),
            queries: queries.len(),
            rounds: run.bench.arguments.rounds,
            clock: run.bench.arguments.clock,
            enough: f64::INFINITY,
            targets: &[],
            judge: &judge,
        };
        run.sweep(&format!("{phase}_{k}"), &sweep, &mut lanes)?;
    }
    Ok(())
}
