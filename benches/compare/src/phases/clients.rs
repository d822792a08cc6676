//! Two clients at once: what one gains while another works.

use anyhow::Result;

use super::ENOUGH;
use crate::bench::{K, Run};
use crate::clock::Clock;
use crate::side::Side;
use crate::sweep::{Lane, Sweep};
use crate::work::Together;

const CLIENTS: usize = 2;

/// The queries of `search`, shared among the clients.
pub fn run(run: &mut Run) -> Result<()> {
    let queries = &run.data.own;
    let count = run.queries(queries);
    let judge = run.judge(run.data, queries, K)?;
    let mut lanes = Vec::new();
    for side in run.sides() {
        let clients = (0..CLIENTS).map(|_| run.single(side, queries, count, K));
        let work = Box::new(Together(clients.collect::<Result<_>>()?));
        lanes.push(Lane { extension: side.name(), settings: side.sweep(), work });
    }
    let sweep = Sweep {
        title: format!("{count} queries, {CLIENTS} clients at once"),
        queries: count,
        rounds: run.bench.arguments.rounds,
        // Of clients at once only the wall tells.
        clock: Clock::Wall,
        enough: ENOUGH,
        targets: &[0.95],
        judge: &judge,
    };
    let points = run.sweep("clients", &sweep, &mut lanes)?;
    let both = Side::ALL.map(|side| run.of(side, &lanes, &points));
    run.compare_at("clients", 0.95, both);
    Ok(())
}
