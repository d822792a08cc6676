//! Inserts into the built index, a row and a transaction each, through one client.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bench::Run;
use crate::clock::Backend;
use crate::curve::{median, spread};
use crate::report::{Better, Entry, short};
use crate::side::Side;
use crate::wire::Vector;

/// Rows that one side inserts before the other has its turn.
const BLOCK: usize = 50;

/// Inserts the later rows.
pub fn run(run: &mut Run) -> Result<()> {
    let later = &run.data.later;
    println!("--> insert: {} rows, a transaction each", later.len());
    let mut lanes = Vec::new();
    for side in run.sides() {
        let mut client = run.session()?;
        client.batch_execute("CHECKPOINT")?;
        let insert = format!("INSERT INTO {} VALUES ($1, $2, 0, 0)", side.table());
        let insert = client.prepare(&insert)?;
        let backend = Backend::of(&mut client)?;
        lanes.push((side, client, backend, insert));
    }
    let first = run.data.rows() as i64;
    let mut rates: BTreeMap<Side, Vec<f64>> = BTreeMap::new();
    for start in (0..later.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(later.len());
        for (side, client, backend, insert) in &mut lanes {
            let rows: Vec<(i64, Vector)> = block
                .clone()
                .map(|row| (first + row as i64, Vector::new(later.get(row))))
                .collect();
            let seconds = run.bench.arguments.clock.time(&[*backend], || {
                for (id, vector) in &rows {
                    client.execute(&*insert, &[id, vector])?;
                }
                Ok(())
            })?;
            let rate = rows.len() as f64 / seconds;
            rates.entry(*side).or_default().push(rate);
        }
    }
    for side in run.sides() {
        let Some(rates) = rates.get(&side) else { continue };
        println!("    {side:<9} {}/s, the median of {} blocks", short(median(rates)), rates.len());
        let entry = Entry {
            setting: "one client".to_owned(),
            per_second: Some(median(rates)),
            spread: spread(rates),
            ..run.entry(side.name(), "insert")
        };
        run.bench.report.results.push(entry);
    }
    let numbers = Side::ALL.map(|side| rates.get(&side).map(|rates| median(rates)));
    let name = format!("insert{}", run.suffix);
    let what = format!("rows/s into the index, d = {}", run.data.dims());
    run.bench.report.compare(&name, &what, "/s", Better::More, numbers);
    Ok(())
}
