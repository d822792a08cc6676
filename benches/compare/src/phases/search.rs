//! Queries a second against recall, a prepared statement a query through one client: queries of the
//! data's own kind (`search`), text-like ones (`text`), and frames among bursts of their like
//! (`frames`).

use anyhow::Result;

use super::{ENOUGH, TARGETS};
use crate::bench::{K, Run};
use crate::curve::{Sample, front};
use crate::data::Vectors;
use crate::side::Side;
use crate::sweep::{Lane, Point, Sweep};

/// Queries of the data's own kind; remembers the settings that later phases use.
pub fn own(run: &mut Run) -> Result<()> {
    let data = run.data;
    let phase = run.name("search");
    let (lanes, points) = measure(run, &phase, &data.own)?;
    for (extension, points) in lanes.into_iter().zip(points) {
        let Some(side) = Side::ALL.into_iter().find(|side| side.name() == extension) else {
            continue;
        };
        let samples: Vec<Sample> = points.iter().map(Point::sample).collect();
        let fastest = front(&samples).into_iter().find(|sample| sample.recall >= 0.95);
        let Some(fastest) = fastest else { continue };
        if let Some(at) = samples.iter().position(|sample| *sample == fastest) {
            run.chosen.insert(side, points[at].setting.clone());
        }
    }
    Ok(())
}

/// Text-like queries, where the set has any.
pub fn text(run: &mut Run) -> Result<()> {
    let data = run.data;
    match &data.text {
        Some(queries) => measure(run, "text", queries).map(drop),
        None => Ok(()),
    }
}

fn measure(
    run: &mut Run,
    phase: &str,
    queries: &Vectors,
) -> Result<(Vec<&'static str>, Vec<Vec<Point>>)> {
    let count = run.queries(queries);
    let judge = run.judge(run.data, queries, K)?;
    let mut lanes = Vec::new();
    for side in run.sides() {
        let work = Box::new(run.single(side, queries, count, K)?);
        lanes.push(Lane { extension: side.name(), settings: side.sweep(), work });
    }
    let sweep = Sweep {
        title: format!("{count} queries, a statement each"),
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
    run.compare_pages_at(phase, 0.95, both);
    Ok((lanes.iter().map(|lane| lane.extension).collect(), points))
}
